/* TCP flows of every network namespace, without work per packet.
 *
 * The kernel already counts bytes, segments, retransmits and round-trip times per socket. These programs only note
 * birth, establishment and death (raw tracepoint sock:inet_sock_set_state) and read the socket's own counters then.
 * What is alive is read by an iterator over the map of sockets, which takes no socket's lock.
 *
 * Counters in a record are cumulative over the socket's life: user space makes deltas of them, so that a record
 * that arrives twice or a scan that races with a close can never count a byte twice.
 */

struct listener_key {
    struct address address;
    u32 netns;
    u16 port, family;
};

struct listener {
    u64 sk;
    struct owner owner;
    u64 owner_source;
};

BPF_TABLE("hash", u64, struct flow, pending, MAX_PENDING); /* closed, waiting for who closed it or who reset it */
BPF_TABLE("lru_hash", struct listener_key, struct listener, listeners, 16384);
BPF_TABLE("percpu_array", u32, struct flow, scanned, 1);       /* where a scan makes its record: its stack is too small */

static inline u64 identity_hash(struct identity *identity, u8 role)
{
    if (role == ROLE_CLIENT)
        return pair_hash(&identity->local, identity->local_port, &identity->remote, identity->remote_port);
    return pair_hash(&identity->remote, identity->remote_port, &identity->local, identity->local_port);
}

static inline struct listener *find_listener(struct identity *identity)
{
    struct listener_key key = {};
    key.address = identity->local;
    key.netns = identity->netns;
    key.port = identity->local_port;
    key.family = identity->family;
    struct listener *listener = listeners.lookup(&key);
    if (listener)
        return listener;
    key.address.high = 0;
    key.address.low = identity->family == 2 ? 0xffff0000ull : 0;
    return listeners.lookup(&key);
}

static inline void listener_key_of(struct identity *identity, struct listener_key *key)
{
    key->address = identity->local;
    key->netns = identity->netns;
    key->port = identity->local_port;
    key->family = identity->family;
}

/* Its first sight is when it was numbered. */
static inline int had_row(struct socket_entry *entry)
{
    return !entry->start || ((entry->last << 8) ^ entry->id) > 255;
}

/* The socket's own counters, cumulative. Payload sent once = all payload sent less payload sent again: neither counts
 * SYN or FIN. bytes_received counts a received FIN, which tcp_fin() marks with SOCK_DONE. */
static inline void fill(struct flow *flow, u64 sk, void *tcp, const int typed, struct socket_entry *entry, struct identity *identity)
{
    u64 again = 0, flags = 0;
    flow->sk = sk;
    flow->id = entry->id;
    flow->start = entry->start;
    flow->established = entry->established;
    flow->cgroup = entry->owner.cgroup;
    flow->pid = entry->owner.pid;
    flow->uid = entry->owner.uid;
    __builtin_memcpy(flow->comm, entry->owner.comm, sizeof(flow->comm));
    flow->role = entry->role;
    flow->flags = entry->flags;
    flow->owner_source = entry->owner_source;
    flow->sampling = entry->sampling;
    flow->local = identity->local;
    flow->remote = identity->remote;
    flow->local_port = identity->local_port;
    flow->remote_port = identity->remote_port;
    flow->netns = identity->netns;
    flow->family = identity->family;
    flow->protocol = 6;
    flow->reported = had_row(entry);
    /* The sender adds to bytes_sent after it added to bytes_retrans: read in the same order. */
    GET(again, tcp, OFFSET_tcp_sock_bytes_retrans);
    GET(flow->sent, tcp, OFFSET_tcp_sock_bytes_sent);
    flow->sent -= again;
    GET(flow->received, tcp, OFFSET_tcp_sock_bytes_received);
    GET(flags, tcp, OFFSET_sock_common_skc_flags);
    if (flow->received && (flags & (1ull << VALUE_SOCK_DONE)))
        flow->received -= 1;
    GET(flow->segments_out, tcp, OFFSET_tcp_sock_segs_out);
    /* An accepted socket counts the SYN that it was made for, but not the SYN-ACK, which another object sent. */
    if (entry->role == ROLE_SERVER)
        flow->segments_out += 1;
    GET(flow->segments_in, tcp, OFFSET_tcp_sock_segs_in);
    GET(flow->retransmits, tcp, OFFSET_tcp_sock_total_retrans);
    GET(flow->srtt, tcp, OFFSET_tcp_sock_srtt_us);
    GET(flow->rtt_min, tcp, OFFSET_tcp_sock_rtt_min + OFFSET_minmax_s + OFFSET_minmax_sample_v);
}

/* Choose a flow, once: it keeps its weight however the sampling changes. */
static inline int choose(struct socket_entry *entry, struct identity *identity, u32 interval)
{
    entry->sampling = interval;
    return in_sample(&identity->local, identity->local_port, &identity->remote, identity->remote_port, interval);
}

static inline void connecting(u64 sk, void *socket)
{
    struct socket_entry entry = {};
#ifdef WITH_FILTER
    struct identity identity;
    if (!identify_typed(socket, 0, &identity))
        return;
    if (!ends_may_match(&identity, 6, ROLE_CLIENT, CONNECTING))
        return;
#endif
    entry.start = bpf_ktime_get_boot_ns();
    entry.role = ROLE_CLIENT;
    if (current_owner(&entry.owner)) {
        entry.owner_source = OWNER_CONNECT;
#ifdef WITH_FILTER
        if (!owner_may_match(&identity, 6, ROLE_CLIENT, CONNECTING, &entry.owner))
            entry.flags = FLAG_UNWANTED;
#endif
    }
    insert(sk, &entry);
}

static inline void listening(u64 sk, void *socket)
{
    struct identity identity;
    struct listener_key key = {};
    struct listener listener = {};
    if (!identify_typed(socket, 0, &identity))
        return;
    listener_key_of(&identity, &key);
    listener.sk = sk;
    if (current_owner(&listener.owner))
        listener.owner_source = OWNER_LISTENER;
    listeners.update(&key, &listener);
}

static inline void not_listening(u64 sk, void *socket, void *tcp)
{
    struct identity identity;
    struct listener_key key = {};
    if (!identify_typed(socket, tcp, &identity))
        return;
    listener_key_of(&identity, &key);
    struct listener *listener = listeners.lookup(&key);
    if (listener && listener->sk == sk)
        listeners.delete(&key);
}

/* close() or shutdown(), in the process's context. */
static inline void closing_by_process(struct socket_entry *entry)
{
    if (!entry || entry->owner_source == OWNER_CONNECT)
        return;
    struct owner owner = {};
    if (current_owner(&owner)) {
        entry->owner = owner;
        entry->owner_source = OWNER_CLOSE;
    }
}

/* An accepted socket is established within microseconds of its making, and only now has its addresses. */
static inline int accepted(u64 sk, struct identity *identity, const int seen, u32 interval)
{
    struct socket_entry entry = {};
#ifdef WITH_FILTER
    if (!ends_may_match(identity, 6, ROLE_SERVER, CONNECTED))
        return 0;
#endif
    entry.role = ROLE_SERVER;
    entry.flags = FLAG_ESTABLISHED;
    if (!choose(&entry, identity, interval))
        return 0;
    if (seen)
        entry.start = entry.established = bpf_ktime_get_boot_ns();
    struct listener *listener = find_listener(identity);
    if (!seen && !listener)                                    /* whether it was accepted at all nothing tells any more */
        return 0;
    entry.pair = identity_hash(identity, ROLE_SERVER);
    /* The client's end is on this host too, in whatever namespace: the same bytes, seen a second time. */
    if (is_client(entry.pair))
        entry.flags |= FLAG_DUPLICATE;
    if (listener && listener->owner_source) {
        entry.owner = listener->owner;
        entry.owner_source = OWNER_LISTENER;
    }
    return insert(sk, &entry);
}

/* A client's port is chosen after SYN_SENT: whether its flow is in the sample, and what a filter says of that port, is
 * known only now. */
static inline int connected(u64 sk, struct socket_entry *entry, struct identity *identity, const int seen, u32 interval)
{
    if (!choose(entry, identity, interval)) {
        forget(sk);
        return 0;
    }
#ifdef WITH_FILTER
    if (FILTER_CLIENT_PORT) {
        if (!ends_may_match(identity, 6, ROLE_CLIENT, CONNECTED)) {
            forget(sk);
            return 0;
        }
        if (entry->owner_source == OWNER_CONNECT && !owner_may_match(identity, 6, ROLE_CLIENT, CONNECTED, &entry->owner))
            entry->flags |= FLAG_UNWANTED;
    }
#endif
    entry->established = seen ? bpf_ktime_get_boot_ns() : 0;
    entry->pair = identity_hash(identity, ROLE_CLIENT);
    entry->flags |= FLAG_ESTABLISHED;
    add_client(entry->pair);
    return 1;
}

static inline void established(u64 sk, void *socket, int old)
{
    struct identity identity;
    struct socket_entry *entry = find_socket(sk);
    if (entry && entry->role == ROLE_ATTEMPT) {                /* still: another's program has sent it where the filter does not look */
        if (old != SYN_RECV)
            return;
        forget(sk);                                            /* of a socket whose end was missed */
        entry = 0;
    }
    if ((!entry && old != SYN_RECV) || !identify_typed(socket, 0, &identity))
        return;
    if (entry && !(entry->flags & FLAG_ESTABLISHED)) {         /* also of two that connected to each other at once */
        connected(sk, entry, &identity, 1, sampling_now());
    } else if (old == SYN_RECV) {
        if (entry)                                             /* of a socket whose end was missed */
            forget(sk);
        accepted(sk, &identity, 1, sampling_now());
    }
}

/* A connection whose establishment nobody has seen, now that it shows in another way: when it was is not known. Of which
 * sample it is, neither: of `interval`, the smallest sample so far, with that weight, sums are right and none is recorded that
 * was left out. Whether it is in the table now. */
static inline int unseen(u64 sk, struct socket_entry *entry, struct identity *identity, u32 interval)
{
    return entry ? connected(sk, entry, identity, 0, interval) : accepted(sk, identity, 0, interval);
}

/* That interval; 0 while none is looked for, as user space says. */
static inline u32 interval_of_unseen(void)
{
    u32 which = CONTROL_UNSEEN;
    u64 *interval = control.lookup(&which);
    return interval ? *interval : 0;
}

static inline int is_established(int state)
{
    return state == ESTABLISHED || state == CLOSE_WAIT;
}

/* The entry of a socket that leaves `old`. */
static inline struct socket_entry *leaving(u64 sk, void *socket, int old)
{
    struct socket_entry *entry = find_socket(sk);
    struct identity identity;
    if (entry && entry->role == ROLE_ATTEMPT)
        return 0;
    if ((entry && entry->flags & FLAG_ESTABLISHED) || !is_established(old))
        return entry;
    u32 interval = interval_of_unseen();
    void *tcp = interval ? tcp_sock_of(socket) : 0;
    if (!tcp || !identify_typed(socket, tcp, &identity))
        return entry;
    return unseen(sk, entry, &identity, interval) ? find_socket(sk) : 0;
}

/* Sockets are destroyed all the time, and hardly ever is one of them waited for: that must be told cheaply. User space
 * says that there are none just before it takes them all. */
static inline int some_are_pending(u64 from_now)
{
    u32 which = CONTROL_PENDING;
    u64 *some = control.lookup(&which);
    if (some && from_now)
        *some = 1;
    return some && *some;
}

/* Of an accepted socket that was met late: its client's end may have been met even later. */
static inline void look_for_other_end(struct socket_entry *entry)
{
    if (entry->pair && entry->role == ROLE_SERVER && !entry->start && is_client(entry->pair))
        entry->flags |= FLAG_DUPLICATE;
}

/* The record is made where it is to lie: a copy of it less. */
static inline void closed(u64 sk, void *socket, int old, struct socket_entry *entry)
{
    void *tcp = tcp_sock_of(socket);
    struct identity identity;
    struct flow *flow = 0;
    u64 flags = AT(u64, socket, OFFSET_sock_common_skc_flags);
    u8 source = entry->owner_source, awaits = 0;
    if (entry->pair && entry->role == ROLE_CLIENT)
        remove_client(entry->pair);
    else
        look_for_other_end(entry);
    /* Reset by the peer while a process still holds the descriptor: its close() will tell who. */
    if ((source == OWNER_UNKNOWN || source == OWNER_LISTENER) && !(flags & (1ull << VALUE_SOCK_DEAD)))
        awaits |= FLAG_AWAITS_OWNER;
    /* Data after close(): the kernel's tcp_reset() runs before it answers with a reset of our own. */
    if ((old == FIN_WAIT1 || old == FIN_WAIT2) && (entry->flags & FLAG_RESET_RECEIVED))
        awaits |= FLAG_AWAITS_RESET;
    int wanted = !(entry->flags & FLAG_UNWANTED) && tcp && identify_typed(socket, tcp, &identity)
        && (entry->sampling || choose(entry, &identity, sampling_now()));
#ifdef WITH_FILTER
    /* Of a flow that has had a row user space knows the counters: it must hear of the end. */
    if (wanted && !had_row(entry) && !(awaits & FLAG_AWAITS_OWNER) && !owner_may_match(&identity, 6, entry->role, CONNECTED, &entry->owner))
        wanted = 0;
    if (wanted && FILTER_CLIENT_PORT && !(entry->flags & FLAG_ESTABLISHED) && !ends_may_match(&identity, 6, entry->role, CONNECTED))
        wanted = 0;
#endif
    if (wanted && tcp) {
        flow = flows.ringbuf_reserve(sizeof(struct flow));
        if (flow) {
            fill(flow, sk, tcp, 1, entry, &identity);
            flow->flags |= awaits;
            flow->kind = KIND_CLOSED;
            flow->state = old;
            flow->time = bpf_ktime_get_boot_ns();
            flow->error = AT(u32, socket, OFFSET_sock_sk_err);
        } else {
            count(COUNT_LOST_RING);
        }
    }
    /* Out of the map first: a scan after this record has left can not meet the socket any more. */
    forget(sk);
    if (!flow)
        return;
    if (awaits && !pending.lookup(&sk) && !pending.update(&sk, flow)) {
        flows.ringbuf_discard(flow, wake_up_for(flow));
        some_are_pending(1);
        count(COUNT_PENDING);
        return;
    }
    flows.ringbuf_submit(flow, wake_up_for(flow));
}

/* The kernel skips a program for an event that interrupts it on the same processor. A softirq interrupts processes: what
 * becomes of a connection by packets, that it is established or has ended, can be missed; what a process does, connect() and
 * close(), cannot. The end tcp_socket_destroyed makes good, which is not running then. An establishment that was missed shows
 * when the socket leaves that state, or, when the kernel says that it has skipped this program, to the search for owners: all
 * of such a flow is counted, only when it began is not known. (A second copy of this program, attached for the events that
 * this one misses, would double what every change of state takes.) */
PROGRAM(tcp_state, u64 *, ctx)
{
    int old = ctx[1], new = ctx[2];
    if (new > LISTEN || !(1 << new & (1 << SYN_SENT | 1 << ESTABLISHED | 1 << FIN_WAIT1 | 1 << LAST_ACK | 1 << CLOSED | 1 << LISTEN)))
        return 0;
    u32 here = 0;
    u64 *own_address = own_addresses.lookup(&here);
    void *socket = (void *)ctx[0];
    if (!own_address)
        return 0;
    u64 sk = number_beside(socket, own_address);
    if (new == FIN_WAIT1 || new == LAST_ACK) {
        closing_by_process(leaving(sk, socket, old));
    } else if (new == CLOSED && old != LISTEN) {
        struct socket_entry *entry = leaving(sk, socket, old);
        if (entry)
            closed(sk, socket, old, entry);
    } else if (AT(u16, socket, OFFSET_sock_sk_protocol) != 6) {
        return 0;                                              /* SCTP's and MPTCP's sockets change their states here, too */
    } else if (new == SYN_SENT) {
        connecting(sk, socket);
    } else if (new == ESTABLISHED) {
        established(sk, socket, old);
    } else if (new == LISTEN) {
        listening(sk, socket);
    } else {
        not_listening(sk, socket, tcp_sock_of(socket));
    }
    return 0;
}

PROGRAM(tcp_reset_received, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0];
    struct socket_entry *entry = find_socket(sk);
    if (entry)
        entry->flags |= FLAG_RESET_RECEIVED;
    return 0;
}

#ifdef WITH_FILTER
static inline int record_may_match(struct flow *flow)
{
    struct identity identity = {};
    struct owner owner = {};
    identity.local = flow->local;
    identity.remote = flow->remote;
    identity.local_port = flow->local_port;
    identity.remote_port = flow->remote_port;
    owner.pid = flow->pid;
    owner.uid = flow->uid;
    owner.cgroup = flow->cgroup;
    __builtin_memcpy(owner.comm, flow->comm, sizeof(owner.comm));
    return owner_may_match(&identity, flow->protocol, flow->role, CONNECTED, &owner);
}
#endif

static inline void emit_pending(u64 sk, u8 flags, struct owner *owner)
{
    struct flow *slot = flows.ringbuf_reserve(sizeof(struct flow));
    if (!slot)
        return;                                               /* stays pending: user space takes it from there */
    struct flow *flow = pending.lookup(&sk);
    if (!flow) {
        flows.ringbuf_discard(slot, wake_up_for(slot));
        return;
    }
    __builtin_memcpy(slot, flow, sizeof(struct flow));
    if (pending.delete(&sk)) {                                /* user space has just taken it */
        flows.ringbuf_discard(slot, wake_up_for(slot));
        return;
    }
    if (flags) {
        slot->flags = (slot->flags | flags) & ~FLAG_RESET_RECEIVED;
    } else if (owner->pid) {
        slot->pid = owner->pid;
        slot->uid = owner->uid;
        slot->cgroup = owner->cgroup;
        __builtin_memcpy(slot->comm, owner->comm, sizeof(owner->comm));
        slot->owner_source = OWNER_CLOSE;
    }
#ifdef WITH_FILTER
    if (!slot->reported && !record_may_match(slot)) {
        flows.ringbuf_discard(slot, wake_up_for(slot));
        return;
    }
#endif
    flows.ringbuf_submit(slot, wake_up_for(slot));
}

PROGRAM(tcp_reset_sent, struct bpf_raw_tracepoint_args *, ctx)
{
    u64 sk = ctx->args[0];
    if (!sk)
        return 0;
    struct socket_entry *entry = find_socket(sk);
    if (entry) {
        entry->flags |= FLAG_RESET_SENT;
        return 0;
    }
    struct flow *flow = pending.lookup(&sk);
    if (flow && (flow->flags & FLAG_AWAITS_RESET)) {
        struct owner nobody = {};
        emit_pending(sk, FLAG_RESET_SENT, &nobody);
    }
    return 0;
}

/* connect() was called, and failed before it sent anything: there is no route, or it is not permitted. */
static inline void attempt_failed(u64 sk, struct socket_entry *entry, struct owner *owner)
{
    struct identity identity;
    struct flow flow = {};
    struct socket_entry chosen = {};
    u32 segments = 0;
    /* Segments: another's program has sent it elsewhere, where the filter does not look. */
    READ(segments, sk, OFFSET_tcp_sock_segs_out);
    int wanted = identify(sk, &identity) && !segments;
    identity.remote = entry->attempted;
    identity.remote_port = entry->attempted_port;
    flow.id = entry->id;
    flow.start = entry->start;
    forget(sk);
    if (!wanted || !choose(&chosen, &identity, sampling_now()))
        return;
#ifdef WITH_FILTER
    if (!owner_may_match(&identity, 6, ROLE_CLIENT, CONNECTED, owner))
        return;
#endif
    flow.sk = sk;
    flow.kind = KIND_CLOSED;
    flow.state = SYN_SENT;
    flow.role = ROLE_CLIENT;
    flow.protocol = 6;
    flow.time = bpf_ktime_get_boot_ns();
    flow.sampling = chosen.sampling;
    flow.family = identity.family;
    flow.netns = identity.netns;
    flow.local = identity.local;
    flow.remote = identity.remote;
    flow.local_port = identity.local_port;
    flow.remote_port = identity.remote_port;
    if (owner->pid) {
        flow.pid = owner->pid;
        flow.uid = owner->uid;
        flow.cgroup = owner->cgroup;
        __builtin_memcpy(flow.comm, owner->comm, sizeof(flow.comm));
        flow.owner_source = OWNER_CLOSE;
    }
    emit(&flow);
}

/* close() of a socket that the peer had reset, or whose connect() had failed: in the closing process's context. Of any other
 * socket that is still in the table the end was missed. */
PROGRAM(tcp_socket_destroyed, u64 *, ctx)
{
    u32 here = 0;
    struct owner owner = {};
    u64 *own_address = own_addresses.lookup(&here);
    if (!own_address)
        return 0;
    u64 sk = number_beside((void *)ctx[0], own_address);
    struct socket_entry *entry = find_socket(sk);
    if (entry && entry->role == ROLE_ATTEMPT) {
        current_owner(&owner);
        attempt_failed(sk, entry, &owner);
        return 0;
    }
    if (entry) {
        closed(sk, (void *)ctx[0], LAST_ACK, entry);
        return 0;
    }
    struct flow *flow = some_are_pending(0) ? pending.lookup(&sk) : 0;
    if (!flow || !(flow->flags & FLAG_AWAITS_OWNER))
        return 0;
    current_owner(&owner);
    emit_pending(sk, 0, &owner);
    return 0;
}

/* The kernel lets a program read its words of an address one by one. */
#define address_of(words) \
    (struct address){(u64)(words)[1] << 32 | (words)[0], (u64)(words)[3] << 32 | (words)[2]}

static inline int attempt(struct bpf_sock_addr *address, struct address remote)
{
    struct socket_entry entry = {};
    struct identity identity = {};
    struct bpf_sock *socket = address->sk;
    u32 here = 0;
    if (address->protocol != 6 || !socket)
        return 1;
    identity.local = socket->family == 2 ? ipv4_address(socket->src_ip4) : address_of(socket->src_ip6);
    identity.local_port = socket->src_port;
    identity.remote = remote;
    identity.remote_port = network_to_host(address->user_port);
#ifdef WITH_FILTER
    if (!ends_may_match(&identity, 6, ROLE_CLIENT, CONNECTING))
        return 1;
#endif
    u64 *own_address = own_addresses.lookup(&here);
    if (!own_address)
        return 1;
    u64 sk = number_beside(socket, own_address);
    struct socket_entry *before = find_socket(sk);
    if (before && before->role == ROLE_ATTEMPT) {
        struct owner owner = {};
        task_owner(bpf_get_current_task(), &owner);
        attempt_failed(sk, before, &owner);
    }
    /* As it will be asked when it has failed: with the ends as they are now. */
    if (!in_sample(&identity.local, identity.local_port, &identity.remote, identity.remote_port, sampling_now()))
        return 1;
    entry.attempted = identity.remote;
    entry.attempted_port = identity.remote_port;
    entry.role = ROLE_ATTEMPT;
    entry.start = bpf_ktime_get_boot_ns();
    insert(sk, &entry);
    return 1;
}

/* connect(): what follows, a SYN, takes the entry over; where nothing follows, it has failed. */
PROGRAM(tcp_attempt4, struct bpf_sock_addr *, address)
{
    return attempt(address, ipv4_address(address->user_ip4));
}

PROGRAM(tcp_attempt6, struct bpf_sock_addr *, address)
{
    return attempt(address, address_of(address->user_ip6));
}

/* ---- iterators: run by user space, in its own time ---- */

struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; u64 session_id, seq_num; };
struct tcp_context { struct bpf_iter_meta *meta; void *sk_common; u32 uid; };
struct map_context { struct bpf_iter_meta *meta; void *map; u32 *key; struct bucket *value; };
struct file_context { struct bpf_iter_meta *meta; void *task; u32 fd; void *file; };

#ifdef WITH_EVENTS
/* How many connections a listener has dropped since it listens: the counter that no tracepoint tells. */
static inline void report_listener(struct seq_file *seq, u64 sk, struct identity *identity, struct listener_key *key)
{
    struct flow flow = {};
    u32 drops = 0;
    flow.kind = KIND_LISTENER;
    flow.sk = flow.id = sk;
    flow.time = bpf_ktime_get_boot_ns();
    flow.local = identity->local;
    flow.local_port = identity->local_port;
    flow.netns = identity->netns;
    flow.role = ROLE_SERVER;
    flow.protocol = 6;
    READ(drops, sk, OFFSET_sock_sk_drops);
    flow.received = drops;
    struct listener *known = listeners.lookup(key);
    if (known && known->sk == sk && known->owner_source) {
        flow.cgroup = known->owner.cgroup;
        flow.pid = known->owner.pid;
        flow.uid = known->owner.uid;
        __builtin_memcpy(flow.comm, known->owner.comm, sizeof(flow.comm));
        flow.owner_source = known->owner_source;
    }
    bpf_seq_write(seq, &flow, sizeof(flow));
}
#endif

/* Sockets that were open before: entered into the map, with their counters so far as the baseline. */
int bpf_iter__tcp(struct tcp_context *ctx)
{
    u8 state = 0;
    struct identity identity;
    if (!ctx->sk_common)
        return 0;
    u64 sk = number_of(ctx->sk_common);                        /* which is hashed */
    READ(state, sk, OFFSET_sock_common_skc_state);
    if (state == TIME_WAIT || state == NEW_SYN_RECV || state == CLOSED || state == SYN_RECV || !identify(sk, &identity))
        return 0;
    if (state == LISTEN) {
        struct listener_key key = {};
        struct listener listener = {};
        listener_key_of(&identity, &key);
        listener.sk = sk;
        listeners.insert(&key, &listener);
#ifdef WITH_EVENTS
        report_listener(ctx->meta->seq, sk, &identity, &key);
#endif
        return 0;
    }
    u32 only = CONTROL_LISTENERS;
    u64 *only_listeners = control.lookup(&only);
    if (only_listeners && *only_listeners)
        return 0;
    if (find_socket(sk))
        return 0;
    struct socket_entry entry = {};
    struct flow flow = {};
    entry.flags = FLAG_ROLE_INFERRED | FLAG_ESTABLISHED;
    if (state == SYN_SENT)
        entry.flags = 0;
    entry.role = ROLE_CLIENT;
    if (state != SYN_SENT && !choose(&entry, &identity, sampling_now()))
        return 0;
    if (state != SYN_SENT) {
        /* Not listening: the client, unless only the peer's port is one that a client is given. */
        u8 like_a_server = identity.local_port < EPHEMERAL_LOW && identity.remote_port >= EPHEMERAL_LOW;
        if (like_a_server || find_listener(&identity))
            entry.role = ROLE_SERVER;
    }
#ifdef WITH_FILTER
    if (!ends_may_match(&identity, 6, entry.role, CONNECTED))
        return 0;
#endif
    entry.pair = identity_hash(&identity, entry.role);
    if (!insert(sk, &entry))
        return 0;
    if (entry.role == ROLE_CLIENT)
        add_client(entry.pair);
    count(COUNT_OWNERLESS);
    fill(&flow, sk, (void *)sk, 0, &entry, &identity);
    flow.kind = KIND_BASELINE;
    flow.state = state;
    flow.time = entry.last;
    bpf_seq_write(ctx->meta->seq, &flow, sizeof(flow));
    return 0;
}

/* One record of a socket that has had no row for long enough; 0 when there was no room for it. */
static inline int report_alive(struct seq_file *seq, struct flow *flow, u64 sk, struct socket_entry *entry, u64 scan, u64 age)
{
    struct identity identity;
    u64 id = entry->id, last = entry->last, pair = entry->pair;
    u8 state = 0;
    /* What this scan has reported already it is asked for again when the kernel had no room for the whole bucket. */
    if (entry->sk != sk || (entry->flags & FLAG_UNWANTED) || (last + age > scan && last != scan))
        return 1;
    READ(state, sk, OFFSET_sock_common_skc_state);
    if (state == CLOSED || state == SYN_RECV)
        return 1;
    if (!identify(sk, &identity) || (pair && identity_hash(&identity, entry->role) != pair)) {
        if (entry->sk == sk && entry->id == id)                /* its death was missed: the memory is another's now */
            forget(sk);
        return 1;
    }
    __builtin_memset(flow, 0, sizeof(*flow));
    look_for_other_end(entry);
    fill(flow, sk, (void *)sk, 0, entry, &identity);
    flow->kind = KIND_ALIVE;
    flow->state = state;
    flow->time = bpf_ktime_get_boot_ns();
    if (entry->sk != sk || entry->id != id)                    /* it has ended meanwhile */
        return 1;
    entry->last = scan;
    return !bpf_seq_write(seq, flow, sizeof(*flow));
}

/* What is alive, a bucket at a time. */
int bpf_iter__bpf_map_elem(struct map_context *ctx)
{
    u32 zero = 0, first = CONTROL_AGE, second = CONTROL_SCAN;
    u32 *key = ctx->key;
    struct bucket *bucket = ctx->value;
    if (!key || !bucket)
        return 0;
    u64 *age = control.lookup(&first), *scan = control.lookup(&second);
    struct flow *flow = scanned.lookup(&zero);
    if (!age || !scan || !flow)
        return 0;
    #pragma clang loop unroll(disable)
    for (u32 place = 0; place < PLACES; place++) {
        u64 sk = bucket->keys[place];
        u32 at = *key * PLACES + place;
        struct socket_entry *slot = sk ? entries.lookup(&at) : 0;
        if (slot && !report_alive(ctx->meta->seq, flow, sk, slot, *scan, *age))
            return 0;
    }
    return 0;
}

/* Whether establishments may have been missed since the last search. */
static inline int some_were_skipped(void)
{
    u32 which = CONTROL_SKIPPED;
    u64 *some = control.lookup(&which);
    return some && *some;
}

/* Who holds the descriptors of sockets whose owner is not known yet. */
int bpf_iter__task_file(struct file_context *ctx)
{
    u64 sk = 0, task = 0;
    u8 state = 0;
    struct owner owner = {};
    if (!ctx->file)
        return 0;
    u64 socket = (u64)bpf_sock_from_file(ctx->file);
    if (!socket)
        return 0;
    READ(task, ctx, 8);                                       /* as a number: it is only read through */
    READ(sk, socket, OFFSET_socket_sk);
    if (!sk || !task)
        return 0;
#ifdef WITH_DATAGRAMS
    u16 protocol = 0;
    READ(protocol, sk, OFFSET_sock_sk_protocol);
    if (protocol != 6) {
        learn_holder(sk, task);
        return 0;
    }
#endif
    struct socket_entry *entry = find_socket(sk);
    READ(state, sk, OFFSET_sock_common_skc_state);
    if (some_were_skipped() && is_established(state) && !(entry && entry->flags & FLAG_ESTABLISHED)) {
        struct identity identity;
        u32 interval = interval_of_unseen();
        if (interval && identify(sk, &identity) && !(entry && entry->role == ROLE_ATTEMPT))
            unseen(sk, entry, &identity, interval);
        entry = find_socket(sk);
    }
    if (entry ? entry->owner_source == OWNER_CONNECT || entry->owner_source == OWNER_CLOSE || entry->owner_source == OWNER_SCAN
              : state != LISTEN)
        return 0;
    task_owner(task, &owner);
    if (entry) {
        entry->owner = owner;
        entry->owner_source = OWNER_SCAN;
    } else {
        struct identity identity;
        struct listener_key key = {};
        if (!identify(sk, &identity) || identity.family == 0)
            return 0;
        listener_key_of(&identity, &key);
        struct listener *listener = listeners.lookup(&key);
        if (listener && listener->sk == sk && !listener->owner_source) {
            listener->owner = owner;
            listener->owner_source = OWNER_LISTENER;
        }
    }
    return 0;
}
