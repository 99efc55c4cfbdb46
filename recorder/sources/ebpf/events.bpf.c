/* Events of TCP connections and dropped packets, counted per (flow, kind, reason) until user space takes them.
 *
 * Two maps take turns: user space turns the switch, waits until no program can be using the other map any more,
 * and then empties it. So nothing is counted into an entry that has been read already.
 *
 * Keep `struct event_key` and `struct event` in step with event_records.py.
 */

enum { EVENT_RETRANSMIT = 1, EVENT_RESET_SENT, EVENT_RESET_RECEIVED, EVENT_CONNECT_FAILED, EVENT_DROP };
/* Why a segment was sent again: tcp_ca_state of the sender (0 to 4), or what it was. */
enum { RETRANSMIT_SYN = 16, RETRANSMIT_SYN_ACK };
/* Why connect() failed, where there is no errno. */
enum { CONNECT_NO_PORT = 99 /* EADDRNOTAVAIL */, CONNECT_NOT_SENT = 0xfffe, CONNECT_GIVEN_UP = 0xffff };
enum { DROPPED = 2 /* SKB_DROP_REASON_NOT_SPECIFIED; what is below is no drop */, SHUTDOWN_MASK = 3 };
enum { TCP_SYN = 2, TCP_ACK = 16 };

struct event_key {
    struct address local, remote;
    u32 netns, reason;
    u16 local_port, remote_port;
    u8 kind, protocol, role, unused;
};

struct event {
    u64 count, time, id, start;
    struct owner owner;
    u64 owner_source;
};

BPF_TABLE("hash", struct event_key, struct event, events_even, MAX_EVENTS);
BPF_TABLE("hash", struct event_key, struct event, events_odd, MAX_EVENTS);
/* Sockets that have just closed: the kernel sends a reset of its own after it has closed the socket. */
BPF_TABLE("lru_hash", u64, struct socket_entry, closing, 4096);

static inline struct event *find_event(struct event_key *key, struct event *fresh, u64 generation)
{
    struct event *known;
    if (generation & 1) {
        known = events_odd.lookup(key);
        if (!known && fresh) {
            events_odd.insert(key, fresh);
            known = events_odd.lookup(key);
        }
    } else {
        known = events_even.lookup(key);
        if (!known && fresh) {
            events_even.insert(key, fresh);
            known = events_even.lookup(key);
        }
    }
    return known;
}

#ifdef WITH_FILTER
static inline int event_may_match(struct event_key *key, struct event *fresh)
{
    struct identity identity = {};
    identity.local = key->local;
    identity.remote = key->remote;
    identity.local_port = key->local_port;
    identity.remote_port = key->remote_port;
    if (!either_may_match(&identity, key->protocol, key->role))
        return 0;
    return fresh->owner_source != OWNER_CONNECT
        || owner_may_match(&identity, key->protocol, key->role, CONNECTED, &fresh->owner);
}
#endif

static inline void note(struct event_key *key, struct event *fresh, u64 number)
{
    u32 which = CONTROL_EVENTS;
#ifdef WITH_FILTER
    if (!event_may_match(key, fresh))
        return;
#endif
    u64 *generation = control.lookup(&which);
    if (!generation)
        return;
    struct event *known = find_event(key, fresh, *generation);
    if (!known) {
        count_many(COUNT_LOST_EVENTS, number);
        return;
    }
    __sync_fetch_and_add(&known->count, number);
    known->time = bpf_ktime_get_boot_ns();
    count_many(COUNT_EVENTS, number);
}

/* What the flow of a socket is known as. */
static inline void recognise(u64 sk, struct event_key *key, struct event *fresh)
{
    struct socket_entry *entry = find_socket(sk);
    if (!entry)
        entry = closing.lookup(&sk);
    if (entry) {
        fresh->id = entry->id;
        fresh->start = entry->start ? entry->start : entry->last;
        fresh->owner = entry->owner;
        fresh->owner_source = entry->owner_source;
        key->role = entry->role;
    }
}

static inline int key_of_socket(u64 sk, struct event_key *key)
{
    struct identity identity;
    u16 port = 0;
    u8 state = 0;
    if (!identify(sk, &identity))
        return 0;
    READ(state, sk, OFFSET_sock_common_skc_state);
    if (state == TIME_WAIT || state == NEW_SYN_RECV) {         /* small sockets end before inet_sport */
        READ(port, sk, OFFSET_sock_common_skc_num);
        identity.local_port = port;
    }
    if (state == NEW_SYN_RECV)
        key->role = ROLE_SERVER;
    key->local = identity.local;
    key->remote = identity.remote;
    key->local_port = identity.local_port;
    key->remote_port = identity.remote_port;
    key->netns = identity.netns;
    key->protocol = 6;
    return 1;
}

static inline void note_socket(u64 sk, u8 kind, u32 reason, u64 number)
{
    struct event_key key = {};
    struct event fresh = {};
    if (!key_of_socket(sk, &key))
        return;
    key.kind = kind;
    key.reason = reason;
    recognise(sk, &key, &fresh);
    note(&key, &fresh, number);
}

/* Where a packet comes from (remote) and goes to (local). Role: who opened the connection, when a flag tells. */
static inline int key_of_packet(u64 skb, struct event_key *key)
{
    u64 head = 0;
    u16 network = 0, protocol = 0, ports[2] = {};
    u8 header[40] = {}, flags = 0;
    READ(protocol, skb, OFFSET_sk_buff_protocol);
    READ(head, skb, OFFSET_sk_buff_head);
    READ(network, skb, OFFSET_sk_buff_network_header);
    u64 at = head + network;
    if (protocol == 0x0008) {                                  /* ETH_P_IP, in network order */
        if (read_kernel(header, 20, (void *)at) || header[0] >> 4 != 4)
            return 0;
        key->remote = ipv4_address(AT(u32, header, 12));
        key->local = ipv4_address(AT(u32, header, 16));
        key->protocol = header[9];
        at += (header[0] & 15) * 4;
        if (AT(u16, header, 6) & 0xff1f)                       /* not the first fragment: no ports */
            at = 0;
    } else if (protocol == 0xdd86) {                           /* ETH_P_IPV6 */
        if (read_kernel(header, 40, (void *)at) || header[0] >> 4 != 6)
            return 0;
        key->remote.high = AT(u64, header, 8);
        key->remote.low = AT(u64, header, 16);
        key->local.high = AT(u64, header, 24);
        key->local.low = AT(u64, header, 32);
        key->protocol = header[6];
        at += 40;
    } else {
        return 0;
    }
    if (at && (key->protocol == 6 || key->protocol == 17 || key->protocol == 132)) {
        READ(ports, at, 0);
        key->remote_port = network_to_host(ports[0]);
        key->local_port = network_to_host(ports[1]);
        if (key->protocol == 6) {
            READ(flags, at, 13);
            if (flags & TCP_SYN)
                key->role = flags & TCP_ACK ? ROLE_CLIENT : ROLE_SERVER;
        }
    }
    return 1;
}

/* One buffer may carry many packets of a flow (GSO, GRO). */
static inline u64 packets_of(u64 skb)
{
    u64 head = 0;
    u32 end = 0;
    u16 segments = 0;
    READ(head, skb, OFFSET_sk_buff_head);
    READ(end, skb, OFFSET_sk_buff_end);
    READ(segments, head + end, OFFSET_skb_shared_info_gso_segs);
    return segments ? segments : 1;
}

static inline void netns_of_packet(u64 skb, struct event_key *key)
{
    u64 device = 0, net = 0;
    READ(device, skb, OFFSET_sk_buff_dev);
    if (device) {
        READ(net, device, OFFSET_net_device_nd_net);
        READ(key->netns, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    }
}

PROGRAM(event_retransmit, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0], skb = ctx->args[1];
    u16 segments = 0;
    u8 state = 0;
    u32 reason = RETRANSMIT_SYN;
    /* One call may be for many segments: counted as the kernel counts RetransSegs. */
    READ(segments, skb, OFFSET_sk_buff_cb + OFFSET_tcp_skb_cb_tcp_gso_segs);
    READ(state, sk, OFFSET_sock_common_skc_state);
    if (state != SYN_SENT) {
        READ(state, sk, OFFSET_inet_connection_sock_icsk_ca_state);
        reason = state & 31;                                   /* a bit field of five */
    }
    note_socket(sk, EVENT_RETRANSMIT, reason, segments ? segments : 1);
    return 0;
}

PROGRAM(event_retransmit_synack, struct bpf_raw_tracepoint_args *, ctx)
{
    note_socket(ctx->args[1], EVENT_RETRANSMIT, RETRANSMIT_SYN_ACK, 1);
    return 0;
}

PROGRAM(event_reset_received, struct bpf_raw_tracepoint_args *, ctx)
{
    note_socket(ctx->args[0], EVENT_RESET_RECEIVED, 0, 1);
    return 0;
}

PROGRAM(event_reset_sent, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0], skb = ctx->args[1];
    u32 reason = 0;
    u8 state = LISTEN;
#if ARGUMENTS_tcp_send_reset > 2
    reason = ctx->args[2];
#endif
    if (sk)
        READ(state, sk, OFFSET_sock_common_skc_state);
    if (state != LISTEN || !skb) {
        note_socket(sk, EVENT_RESET_SENT, reason, 1);
        return 0;
    }
    /* Nobody's: the answer to a packet for a port where nobody listens, or for a connection that is no more. */
    struct event_key key = {};
    struct event fresh = {};
    if (!key_of_packet(skb, &key))
        return 0;
    netns_of_packet(skb, &key);
    key.kind = EVENT_RESET_SENT;
    key.reason = reason;
    note(&key, &fresh, 1);
    return 0;
}

static inline void connect_failed(u64 sk)
{
    u16 port = 0;
    u32 error = 0;
    u8 shutdown = 0;
    READ(error, sk, OFFSET_sock_sk_err);
    if (!error)                                                /* told by ICMP, but the socket was in use just then */
        READ(error, sk, OFFSET_sock_sk_err_soft);
    if (!error) {
        READ(shutdown, sk, OFFSET_sock_sk_shutdown);
        READ(port, sk, OFFSET_inet_sock_inet_sport);
        if ((shutdown & SHUTDOWN_MASK) == SHUTDOWN_MASK)
            error = CONNECT_GIVEN_UP;
        else if (!port)
            error = CONNECT_NO_PORT;
    }
    note_socket(sk, EVENT_CONNECT_FAILED, error, 1);
}

/* Attached before the programs of tcp.bpf.c: the socket is still in the map. A reset may follow where the socket was not
 * closed in the usual order, or the peer's data came after close(). */
PROGRAM(event_closed, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0];
    int old = ctx->args[1], new = ctx->args[2];
    u16 protocol = 0;
    if (new != CLOSED)
        return 0;
    struct socket_entry *entry = find_socket(sk);
    int in_order = old == LAST_ACK || old == FIN_WAIT2 || old == CLOSING;
    if (entry && (!in_order || entry->flags & FLAG_RESET_RECEIVED))
        closing.update(&sk, entry);
    if (old == SYN_SENT) {
        READ(protocol, sk, OFFSET_sock_sk_protocol);
        if (protocol == 6)
            connect_failed(sk);
    }
    return 0;
}

/* Attached before the programs of tcp.bpf.c, too: what connect() could not send is still in the table. */
PROGRAM(event_socket_destroyed, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0];
    struct event_key key = {};
    struct event fresh = {};
    struct socket_entry *entry = find_socket(sk);
    if (!entry || entry->role != ROLE_ATTEMPT || !key_of_socket(sk, &key))
        return 0;
    key.remote = entry->attempted;
    key.remote_port = entry->attempted_port;
    key.kind = EVENT_CONNECT_FAILED;
    key.reason = CONNECT_NOT_SENT;
    key.role = ROLE_CLIENT;
    fresh.id = entry->id;
    fresh.start = entry->start;
    if (current_owner(&fresh.owner))
        fresh.owner_source = OWNER_CLOSE;
    note(&key, &fresh, 1);
    return 0;
}

PROGRAM(event_drop, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 skb = ctx->args[0], sk = 0;
    u32 reason = DROPPED, length = 0;
#if ARGUMENTS_kfree_skb > 2
    reason = ctx->args[2];
#endif
    if (reason < DROPPED)
        return 0;
    READ(length, skb, OFFSET_sk_buff_len);
    if (!length)                                               /* a FIN that was taken note of, in a queue that goes */
        return 0;
    struct event_key key = {};
    struct event fresh = {};
    if (!key_of_packet(skb, &key))
        return 0;
    key.kind = EVENT_DROP;
    key.reason = reason;
#if ARGUMENTS_kfree_skb > 3
    sk = ctx->args[3];
#endif
    if (!sk)
        READ(sk, skb, OFFSET_sk_buff_sk);
    if (sk && key.protocol == 6) {
        struct event_key own = {};
        recognise(sk, &own, &fresh);
        if (own.role && key_of_socket(sk, &own)) {
            own.kind = EVENT_DROP;
            own.reason = reason;
            note(&own, &fresh, packets_of(skb));
            return 0;
        }
    }
    if (sk) {
        struct identity identity;
        if (identify(sk, &identity))
            key.netns = identity.netns;
    } else {
        netns_of_packet(skb, &key);
    }
    note(&key, &fresh, packets_of(skb));
    return 0;
}
