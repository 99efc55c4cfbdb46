/* Flows of UDP, ICMP and what else is not TCP: per packet, at the sockets of every cgroup (cgroup_skb).
 *
 * Two maps take turns, as those of the events do: user space turns the switch, waits until no program can be using the
 * other map any more, and empties it. So every byte is read exactly once, and nothing has to be deleted while it is
 * counted into. What a flow is over longer than one turn is user space's to know.
 *
 * Most packets belong to few flows, and looking into a hash map is most of the work for one. So each turn has slots too: a
 * flow's packets may be counted in one of them only, and the first flow of a turn that asks for a slot has it. Those of
 * all others, and of a flow whose slot is just being filled, are counted in the hash map: a flow can be in both.
 *
 * Keep `struct datagram_key`, `struct datagram_flow` and `struct datagram_slot` in step with datagram_records.py.
 */

enum { IPV4_HEADER = 20, UDP_HEADER = 8, ICMP_HEADER = 8 };
enum { DATAGRAM_SENT_FIRST = 1, DATAGRAM_NEW_SOCKET = 2 };
/* Of a turn. Reading the clock is a quarter of the work: these get a time each, then one in every jiffy does. And who
 * sends is asked for with these only: a tunnel's packets are nobody's. */
enum { FIRST_PACKETS = 16 };

struct datagram_key {
    u64 socket;                                                /* its cookie, and so its namespace too */
    struct address local, remote;
    u64 ends;                                                  /* see ends_of() */
};

struct datagram_flow {
    u64 first, last, sent, received;
    u32 packets_sent, packets_received;
    u32 tick, netns;                                           /* jiffies when `last` was set */
    u8 owner_source, flags, unused[6];
    struct owner owner;
};

struct datagram_slot {
    struct datagram_key key;                                   /* socket: 0 in a slot that is free */
    struct datagram_flow flow;
    u64 unused[7];                                             /* cache lines of its own */
};

enum { DATAGRAM_QUARTER = MAX_FLOWS < 4 ? 1 : MAX_FLOWS / 4 };

#define BEING_FILLED (~0ull)

struct holder {
    struct owner owner;
    u8 owner_source, created, unused[6];
};

BPF_F_TABLE("array", u32, struct datagram_slot, datagram_slots, 2 * DATAGRAM_SLOTS, 1024 /* BPF_F_MMAPABLE */);
BPF_F_TABLE("hash", struct datagram_key, struct datagram_flow, datagrams_even, MAX_FLOWS, 1 /* BPF_F_NO_PREALLOC */);
BPF_F_TABLE("hash", struct datagram_key, struct datagram_flow, datagrams_odd, MAX_FLOWS, 1);
BPF_TABLE("array", u32, u64, datagram_flows, 1);               /* how many places were taken so far */
BPF_TABLE("lru_hash", u64, struct holder, holders, 32768);     /* socket -> who made it, or who last sent through it */

/* Ports, protocol, and the type of ICMP messages that belong to no echo, as they lie in memory: local_port, remote_port
 * (16 bits), protocol, type (8). In one word, because the processor waits where it reads wider than it has written. */
static inline u64 ends_of(u16 local_port, u16 remote_port, u8 protocol, u8 type)
{
    return local_port | (u64)remote_port << 16 | (u64)protocol << 32 | (u64)type << 40;
}

static inline struct datagram_slot *slot_of(struct datagram_key *key, u64 turn)
{
    u64 hash = (key->socket ^ key->remote.high ^ key->remote.low ^ key->ends) * 0xff51afd7ed558ccdull;
    u32 place = (u32)(hash >> 40) % DATAGRAM_SLOTS + (turn & 1 ? DATAGRAM_SLOTS : 0);
    return datagram_slots.lookup(&place);
}

static inline int is_slot_of(struct datagram_slot *slot, struct datagram_key *key)
{
    struct datagram_key *known = &slot->key;
    return !((known->socket ^ key->socket) | (known->ends ^ key->ends)
             | (known->remote.low ^ key->remote.low) | (known->remote.high ^ key->remote.high)
             | (known->local.low ^ key->local.low) | (known->local.high ^ key->local.high));
}

static inline struct datagram_flow *find_datagrams(struct datagram_key *key, u64 turn)
{
    if (turn & 1)
        return datagrams_odd.lookup(key);
    return datagrams_even.lookup(key);
}

/* One more place of a turn is taken: user space takes a turn early when half of them are, and looks after each quarter. */
static inline void count_flow(void)
{
    u32 here = 0;
    u64 *flows_so_far = datagram_flows.lookup(&here);
    if (flows_so_far && (__sync_fetch_and_add(flows_so_far, 1) + 1) % DATAGRAM_QUARTER == 0)
        wake_up_now();
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

static inline void begin(struct datagram_flow *flow, u64 sk, u8 sent, u8 reply)
{
    u64 net = 0;
    flow->first = flow->last = bpf_ktime_get_boot_ns();
    flow->flags = sent != reply ? DATAGRAM_SENT_FIRST : 0;
    READ(net, sk, OFFSET_sock_common_skc_net);
    READ(flow->netns, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    take_owner(flow, sk, sent);
}

/* For a flow that has no slot: this one if it is free, else a place in the hash map; 0 when that is full. */
static inline struct datagram_flow *place_for(struct datagram_key *key, struct datagram_slot *slot, u64 turn, u64 sk, u8 sent, u8 reply)
{
    if (!slot->key.socket && !__sync_val_compare_and_swap(&slot->key.socket, 0, BEING_FILLED)) {
        slot->key.local = key->local;
        slot->key.remote = key->remote;
        slot->key.ends = key->ends;
        begin(&slot->flow, sk, sent, reply);
        count_flow();
        __sync_val_compare_and_swap(&slot->key.socket, BEING_FILLED, key->socket);
        return &slot->flow;
    }
    struct datagram_flow *flow = find_datagrams(key, turn);
    if (flow)
        return flow;
    struct datagram_flow fresh = {};
    begin(&fresh, sk, sent, reply);
    int failed = turn & 1 ? datagrams_odd.insert(key, &fresh) : datagrams_even.insert(key, &fresh);
    if (!failed)
        count_flow();
    return find_datagrams(key, turn);                          /* another processor may have been first */
}

static inline int datagram(struct __sk_buff *skb, u8 sent)
{
    u8 *data = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
    struct datagram_key key;
    struct address source, destination;
    u32 length = skb->len, offset = 0, packets = skb->gso_segs, which = CONTROL_DATAGRAMS;
    u16 source_port = 0, destination_port = 0;
    u8 protocol = 0, type = 0, reply = 0;
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
        source.high = *(u64 *)(data + 8);
        source.low = *(u64 *)(data + 16);
        destination.high = *(u64 *)(data + 24);
        destination.low = *(u64 *)(data + 32);
        offset = behind_options(data, end, &protocol);
        if (protocol == 6)
            return 1;
    } else {
        return 1;
    }
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
            type = message[0];
            reply = type == (protocol == 1 ? 0 : 129);
            if (reply || type == (protocol == 1 ? 8 : 128)) {  /* an echo: known by its identifier */
                source_port = destination_port = *(u16 *)(message + 4);
                type = 0;
            }
        }
    }
    offset += protocol == 17 ? UDP_HEADER : protocol == 1 || protocol == 58 ? ICMP_HEADER : 0;
    length = length > offset ? length - offset : 0;
    packets = packets ? packets : 1;
    key.socket = bpf_get_socket_cookie(skb);
    key.local = sent ? source : destination;
    key.remote = sent ? destination : source;
    key.ends = ends_of(sent ? source_port : destination_port, sent ? destination_port : source_port, protocol, type);

    u64 turn = *generation;
    u32 tick = bpf_jiffies64();
    struct datagram_slot *slot = slot_of(&key, turn);
    if (!slot)
        return 1;
    struct datagram_flow *flow = &slot->flow;
    if (!is_slot_of(slot, &key)) {
        u16 local_port = sent ? source_port : destination_port, remote_port = sent ? destination_port : source_port;
#ifdef WITH_FILTER
        struct identity identity = {};
        identity.local = key.local;
        identity.remote = key.remote;
        identity.local_port = local_port;
        identity.remote_port = remote_port;
        if (!either_may_match(&identity, protocol, 0))         /* roles and owners are settled on the rows */
            return 1;
#endif
        if (!in_sample(&key.local, local_port, &key.remote, remote_port, sampling_now()))
            return 1;
        flow = place_for(&key, slot, turn, number_of(socket), sent, reply);
        if (!flow) {
            count_many(COUNT_LOST_DATAGRAMS, packets);
            return 1;
        }
    }
    if (sent && flow->owner_source != OWNER_SEND && flow->packets_sent < FIRST_PACKETS)
        take_owner(flow, number_of(socket), sent);
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

PROGRAM(datagram_received, struct __sk_buff *, skb)
{
    return datagram(skb, 0);
}

PROGRAM(datagram_sent, struct __sk_buff *, skb)
{
    return datagram(skb, 1);
}

PROGRAM(socket_created, struct bpf_sock *, socket)
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

PROGRAM(socket_released, struct bpf_sock *, socket)
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
