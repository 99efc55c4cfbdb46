/* Flows of UDP, ICMP and what else is not TCP: per packet, at the sockets of every cgroup (cgroup_skb).
 *
 * Two maps take turns, as those of the events do: user space turns the switch, waits until no program can be using the
 * other map any more, and empties it. So every byte is read exactly once, and nothing has to be deleted while it is
 * counted into. What a flow is over longer than one turn is user space's to know.
 *
 * Keep `struct datagram_key` and `struct datagram_flow` in step with datagram_records.py.
 */

enum { IPV4_HEADER = 20, IPV6_HEADER = 40, UDP_HEADER = 8, ICMP_HEADER = 8 };
enum { DATAGRAM_SENT_FIRST = 1, DATAGRAM_NEW_SOCKET = 2 };
/* Of a turn. Reading the clock is a quarter of the work: these get a time each, then one in every jiffy does. And who
 * sends is asked for with these only: a tunnel's packets are nobody's. */
enum { FIRST_PACKETS = 16 };

struct datagram_key {
    struct address local, remote;
    u64 socket;                                                /* its cookie, and so its namespace too */
    u16 local_port, remote_port;
    u8 protocol, type, unused[2];                              /* type: of ICMP messages that belong to no echo */
};

struct datagram_flow {
    u64 first, last, sent, received;
    struct owner owner;
    u32 packets_sent, packets_received, netns;
    u8 owner_source, flags, unused[2];
    u32 tick, unused_too;                                      /* jiffies when `last` was set */
};

struct holder {
    struct owner owner;
    u8 owner_source, created, unused[6];
};

BPF_F_TABLE("hash", struct datagram_key, struct datagram_flow, datagrams_even, MAX_FLOWS, 1 /* BPF_F_NO_PREALLOC */);
BPF_F_TABLE("hash", struct datagram_key, struct datagram_flow, datagrams_odd, MAX_FLOWS, 1);
BPF_TABLE("lru_hash", u64, struct holder, holders, 32768);     /* socket -> who made it, or who last sent through it */

static inline struct datagram_flow *find_datagrams(struct datagram_key *key, u64 generation)
{
    if (generation & 1)
        return datagrams_odd.lookup(key);
    return datagrams_even.lookup(key);
}

static inline void take_owner(struct datagram_flow *flow, u64 sk, u8 sent)
{
    struct holder holder = {};
    if (sent && sender_of(sk, &holder.owner)) {
        holder.owner_source = OWNER_SEND;
        struct holder *known = holders.lookup(&sk);
        if (known)
            holder.created = known->created;
        if (!known || known->owner_source != OWNER_SEND || known->owner.pid != holder.owner.pid)
            holders.update(&sk, &holder);
    } else {
        struct holder *known = holders.lookup(&sk);
        if (!known)
            return;
        holder = *known;
    }
    if (holder.created)
        flow->flags |= DATAGRAM_NEW_SOCKET;
    flow->owner = holder.owner;
    flow->owner_source = holder.owner_source;
}

static inline struct datagram_flow *begin(struct datagram_key *key, u64 generation, u64 sk, u8 sent, u8 reply)
{
    struct datagram_flow fresh = {};
    u64 now = bpf_ktime_get_boot_ns(), net = 0;
    fresh.first = fresh.last = now;
    fresh.flags = sent != reply ? DATAGRAM_SENT_FIRST : 0;
    READ(net, sk, OFFSET_sock_common_skc_net);
    READ(fresh.netns, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    take_owner(&fresh, sk, sent);
    int failed = generation & 1 ? datagrams_odd.insert(key, &fresh) : datagrams_even.insert(key, &fresh);
    if (!failed)
        count(COUNT_DATAGRAM_FLOWS);
    return find_datagrams(key, generation);                    /* another processor may have been first */
}

static inline int datagram(struct __sk_buff *skb, u8 sent)
{
    u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
    struct datagram_key key = {};
    struct address source, destination;
    u32 length = skb->len, offset = 0, packets = skb->gso_segs, which = CONTROL_DATAGRAMS;
    u16 source_port = 0, destination_port = 0;
    u8 protocol = 0, reply = 0;
    if (data + IPV4_HEADER > end)
        return 1;
    if (data[0] >> 4 == 4) {
        protocol = data[9];
        if (protocol == 6)
            return 1;
        offset = (data[0] & 15) * 4;
        source = ipv4_address(*(u32 *)(data + 12));
        destination = ipv4_address(*(u32 *)(data + 16));
    } else if (data[0] >> 4 == 6 && data + IPV6_HEADER <= end) {
        protocol = data[6];
        if (protocol == 6)
            return 1;
        offset = IPV6_HEADER;
        source.high = *(u64 *)(data + 8);
        source.low = *(u64 *)(data + 16);
        destination.high = *(u64 *)(data + 24);
        destination.low = *(u64 *)(data + 32);
    } else {
        return 1;
    }
#pragma unroll
    for (int more = 0; more < 3; more++) {                     /* hop-by-hop, routing and destination options */
        u8 *option = data + offset;
        if ((protocol != 0 && protocol != 43 && protocol != 60) || offset > 512 || option + 8 > end)
            break;
        protocol = option[0];
        offset += option[1] * 8 + 8;
    }
    if (protocol == 6)
        return 1;
#ifndef WANT_UDP
    if (protocol == 17)
        return 1;
#endif
#ifndef WANT_ICMP
    if (protocol == 1 || protocol == 58)
        return 1;
#endif
#ifndef WANT_OTHER
    if (protocol != 17 && protocol != 1 && protocol != 58)
        return 1;
#endif
    struct bpf_sock *socket = skb->sk;
    u64 *generation = control.lookup(&which);
    if (!socket || !generation)
        return 1;
    key.socket = bpf_get_socket_cookie(skb);
    if (protocol == 17 || protocol == 132) {
        u8 *ports = data + offset;
        if (offset <= 4096 && ports + 4 <= end) {
            source_port = network_to_host(*(u16 *)ports);
            destination_port = network_to_host(*(u16 *)(ports + 2));
        }
    }
    if (protocol == 1 || protocol == 58) {
        u8 *message = data + offset;
        if (offset <= 4096 && message + ICMP_HEADER <= end) {
            u8 type = message[0];
            reply = type == (protocol == 1 ? 0 : 129);
            if (reply || type == (protocol == 1 ? 8 : 128))    /* an echo: known by its identifier */
                source_port = destination_port = *(u16 *)(message + 4);
            else
                key.type = type;
        }
    }
    offset += protocol == 17 ? UDP_HEADER : protocol == 1 || protocol == 58 ? ICMP_HEADER : 0;
    length = length > offset ? length - offset : 0;
    packets = packets ? packets : 1;
    key.protocol = protocol;
    key.local = sent ? source : destination;
    key.remote = sent ? destination : source;
    key.local_port = sent ? source_port : destination_port;
    key.remote_port = sent ? destination_port : source_port;
#ifdef WITH_FILTER
    struct identity identity = {};
    identity.local = key.local;
    identity.remote = key.remote;
    identity.local_port = key.local_port;
    identity.remote_port = key.remote_port;
    if (!either_may_match(&identity, protocol, 0))             /* roles and owners are settled on the rows */
        return 1;
#endif

    if (!in_sample(&key.local, key.local_port, &key.remote, key.remote_port, sampling_now()))
        return 1;
    u64 turn = *generation;
    u32 tick = bpf_jiffies64();
    struct datagram_flow *flow = find_datagrams(&key, turn);
    if (!flow) {
        flow = begin(&key, turn, number_of(socket), sent, reply);
        if (!flow) {
            count_many(COUNT_LOST_DATAGRAMS, packets);
            return 1;
        }
    } else if (sent && flow->owner_source != OWNER_SEND && flow->packets_sent < FIRST_PACKETS) {
        take_owner(flow, number_of(socket), sent);
    }
    if (flow->tick != tick || flow->packets_sent + flow->packets_received < FIRST_PACKETS) {
        flow->tick = tick;
        flow->last = bpf_ktime_get_boot_ns();
    }
    if (sent) {
        __sync_fetch_and_add(&flow->sent, length);
        __sync_fetch_and_add(&flow->packets_sent, packets);
    } else {
        __sync_fetch_and_add(&flow->received, length);
        __sync_fetch_and_add(&flow->packets_received, packets);
    }
    return 1;
}

int datagram_received(struct __sk_buff *skb)
{
    return datagram(skb, 0);
}

int datagram_sent(struct __sk_buff *skb)
{
    return datagram(skb, 1);
}

int socket_created(struct bpf_sock *socket)
{
    if (socket->protocol == 6)
        return 1;
    u64 task = bpf_get_current_task(), sk = number_of(socket);
    struct holder holder = {};
    task_owner(task, &holder.owner);
    holder.owner_source = OWNER_CREATE;
    holder.created = 1;
    holders.update(&sk, &holder);
    return 1;
}

int socket_released(struct bpf_sock *socket)
{
    if (socket->protocol == 6)
        return 1;
    u64 sk = number_of(socket);
    holders.delete(&sk);
    return 1;
}

/* A process that holds the descriptor of a socket that was there before. */
static inline void learn_holder(u64 sk, u64 task)
{
    u16 family = 0;
    struct holder holder = {};
    READ(family, sk, OFFSET_sock_common_skc_family);
    if ((family != 2 && family != 10) || holders.lookup(&sk))
        return;
    task_owner(task, &holder.owner);
    holder.owner_source = OWNER_SCAN;
    holders.insert(&sk, &holder);
}
