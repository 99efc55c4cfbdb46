/* What every program file shares: structs, counters, reading a socket's identity and a task's owner.
 *
 * The program text is this file followed by those that were asked for (programs.py); there are no kernel headers.
 * Offsets (OFFSET_ struct _ field), enumerators (VALUE_), sizes (SIZE_), numbers of a tracepoint's arguments
 * (ARGUMENTS_) are defined by the compiler from the running kernel's BTF, limits (MAX_...) by programs.py.
 */

enum { ESTABLISHED = 1, SYN_SENT, SYN_RECV, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSED, CLOSE_WAIT, LAST_ACK, LISTEN,
       CLOSING, NEW_SYN_RECV };
enum { ROLE_CLIENT = 1, ROLE_SERVER, ROLE_ATTEMPT /* connect() has been called, and nothing sent yet */ };
enum { OWNER_UNKNOWN, OWNER_CONNECT, OWNER_CLOSE, OWNER_LISTENER, OWNER_SCAN, OWNER_SEND, OWNER_CREATE };
enum { COUNT_LOST_RING, COUNT_LOST_MAP, COUNT_INSERTED, COUNT_DELETED, COUNT_PENDING, COUNT_OWNERLESS,
       COUNT_EVENTS, COUNT_LOST_EVENTS, COUNT_LOST_DATAGRAMS, COUNT_LOST_DNS,
       COUNT_RUN_TIME, COUNTERS };
enum { CONTROL_SCAN, CONTROL_AGE, CONTROL_LISTENERS, CONTROL_EVENTS, CONTROL_DATAGRAMS, CONTROL_SAMPLING, CONTROL_PENDING,
       CONTROL_TIMING, CONTROL_UNSEEN, CONTROL_SKIPPED, CONTROLS };
enum { EPHEMERAL_LOW = 32768, TASK_IS_KERNEL_THREAD = 0x200000 };

struct owner {
    u64 cgroup;
    u32 pid, uid;
    char comm[16];
};

struct address { u64 high, low; };

/* What the first bytes of any struct sock say. */
struct identity {
    struct address local, remote;
    u32 netns;
    u16 local_port, remote_port, family, unused;
};

BPF_TABLE("percpu_array", u32, u64, counters, COUNTERS);
BPF_TABLE("array", u32, u64, control, CONTROLS);           /* scan: when it began; age: what it reports, in ns; sampling: 1 in so many flows; pending: whether any are; timing: see PROGRAM; unseen, skipped: see tcp_state; else: which map of two */

/* By its number: where bcc cannot read /proc/kallsyms (no CAP_SYSLOG) it puts the old bpf_probe_read in this helper's place,
 * which programs of cgroups may not call. */
static long (*read_kernel)(void *destination, u32 size, const void *source) = (void *)113;

#define READ(destination, base, offset) read_kernel(&(destination), sizeof(destination), (void *)((u64)(base) + (offset)))
#define AT(type, pointer, offset) (*(type *)((char *)(pointer) + (offset)))

static inline void count_many(u32 which, u64 number)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, number);
}

static inline void count(u32 which)
{
    count_many(which, 1);
}

/* A program that a budget counts. Where there is one, now and then programs time themselves for a moment (run_times.py): the
 * kernel's own statistics read a clock twice a run of any program of the host, which is more than many of these take, and
 * switching them needs CAP_SYS_ADMIN. The clock is read a third time to take off what reading it takes. */
#ifdef WITH_TIMING
static inline u64 begin_run(void)
{
    u32 which = CONTROL_TIMING;
    u64 *timing = control.lookup(&which);
    return timing && *timing ? bpf_ktime_get_ns() : 0;
}

static inline void end_run(u64 begun)
{
    if (!begun)
        return;
    u64 ended = bpf_ktime_get_ns(), reading = bpf_ktime_get_ns() - ended, taken = ended - begun;
    count_many(COUNT_RUN_TIME, taken > reading ? taken - reading : 0);
}

#define PROGRAM(name, type, context)                                                                                           \
    static inline int name##_run(type context);                                                                                \
    int name(type context)                                                                                                     \
    {                                                                                                                          \
        u64 begun = begin_run();                                                                                               \
        int result = name##_run(context);                                                                                      \
        end_run(begun);                                                                                                        \
        return result;                                                                                                         \
    }                                                                                                                          \
    static inline int name##_run(type context)
#else
#define PROGRAM(name, type, context) int name(type context)
#endif

static inline struct address ipv4_address(u32 address)
{
    struct address mapped = {0, ((u64)address << 32) | 0xffff0000ull};
    return mapped;
}

static inline u16 network_to_host(u16 port)
{
    return __builtin_bswap16(port);
}

/* What the verifier knows the type of it lets a program load from, which costs a tenth of reading: the socket that a typed
 * tracepoint gives, and the task that runs. What it makes of them, a tcp_sock (none, when the socket is not of TCP) or what a
 * field points to, is not trusted as they are: the kernel checks the address at every load. */
static void *(*tcp_sock_of)(void *socket) = (void *)137;
static void *(*task_that_runs)(void) = (void *)158;

/* By loading where `typed`, a constant, says that `base` is such a pointer; else by reading. */
#define GET(destination, base, offset) \
    (typed ? (void)((destination) = AT(typeof(destination), base, offset)) : (void)READ(destination, base, offset))

/* How much of a socket's common part is read: all up to the last of what is asked for. */
enum { END_OF_NET = OFFSET_sock_common_skc_net + 8, END_OF_IPV6 = OFFSET_sock_common_skc_v6_rcv_saddr + 16,
       COMMON_BYTES = END_OF_NET > END_OF_IPV6 ? END_OF_NET : END_OF_IPV6 };

/* Family, addresses and remote port, from a socket's common part. IPv4 is kept as ::ffff:a.b.c.d. */
static inline int identify_ends(void *common, struct identity *identity)
{
    identity->family = AT(u16, common, OFFSET_sock_common_skc_family);
    identity->remote_port = network_to_host(AT(u16, common, OFFSET_sock_common_skc_dport));
    identity->unused = 0;
    if (identity->family == 2) {
        identity->local = ipv4_address(AT(u32, common, OFFSET_sock_common_skc_rcv_saddr));
        identity->remote = ipv4_address(AT(u32, common, OFFSET_sock_common_skc_daddr));
    } else if (identity->family == 10) {
        identity->local.high = AT(u64, common, OFFSET_sock_common_skc_v6_rcv_saddr);
        identity->local.low = AT(u64, common, OFFSET_sock_common_skc_v6_rcv_saddr + 8);
        identity->remote.high = AT(u64, common, OFFSET_sock_common_skc_v6_daddr);
        identity->remote.low = AT(u64, common, OFFSET_sock_common_skc_v6_daddr + 8);
    } else {
        return 0;
    }
    return 1;
}

/* skc_num is 0 by the time of CLOSE for a bound client: inet_sport stays. */
static inline int identify(u64 sk, struct identity *identity)
{
    u64 common[COMMON_BYTES / 8];
    if (read_kernel(common, sizeof(common), (void *)sk) || !identify_ends(common, identity))
        return 0;
    u64 net = AT(u64, common, OFFSET_sock_common_skc_net);
    READ(identity->netns, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    READ(identity->local_port, sk, OFFSET_inet_sock_inet_sport);
    identity->local_port = network_to_host(identity->local_port);
    return 1;
}

/* The same of the socket that a typed tracepoint gives; `tcp` is that socket as a tcp_sock, or 0 where it is open. */
static inline int identify_typed(void *socket, void *tcp, struct identity *identity)
{
    if (!identify_ends(socket, identity))
        return 0;
    void *net = AT(void *, socket, OFFSET_sock_common_skc_net);
    identity->netns = AT(u32, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    identity->local_port = tcp ? network_to_host(AT(u16, tcp, OFFSET_inet_sock_inet_sport))
                               : AT(u16, socket, OFFSET_sock_common_skc_num);
    return 1;
}

static inline u64 mix(u64 hash, u64 word)
{
    hash ^= word;
    hash *= 0xff51afd7ed558ccdull;
    return hash ^ (hash >> 32);
}

enum { NEIGHBOURS = 8 };                                     /* ports of a client that share a bucket */

/* A pair of ends. The upper half tells it from others, and is never 0; the lower is where it is kept: what a client opens one
 * after the other to one service lies together. */
static inline u64 pair_hash(struct address *client, u16 client_port, struct address *server, u16 server_port)
{
    u64 hash = mix(0x9e3779b97f4a7c15ull, client->high);
    hash = mix(hash, client->low);
    hash = mix(hash, server->high);
    hash = mix(mix(hash, server->low), server_port);
    u64 place = (u32)(hash + client_port / NEIGHBOURS);
    return (mix(hash, client_port) >> 32 | 1) << 32 | place;
}

/* 1 in how many flows is recorded now: 1 is all. */
static inline u32 sampling_now(void)
{
    u32 which = CONTROL_SAMPLING;
    u64 *interval = control.lookup(&which);
    return interval && *interval > 1 ? *interval : 1;
}

/* Whether a flow belongs to the 1 in `interval` that are recorded. By the ends' addresses and ports only, the same from both
 * ends, so that all hosts that see a flow choose alike; what is chosen at an interval is chosen at all its divisors.
 * Keep in step with sampling.py. */
static inline int in_sample(struct address *one, u16 port, struct address *other, u16 other_port, u32 interval)
{
    if (interval <= 1)
        return 1;
    u64 hash = mix(0x9e3779b97f4a7c15ull, one->high + other->high);
    hash = mix(hash, one->low + other->low);
    hash = mix(hash, ((u64)(port ^ other_port) << 32) | ((u32)port + other_port));
    return (u32)(hash >> 32) % interval == 0;
}

/* The current process, unless it is a kernel thread: those close and connect on behalf of others. */
static inline int current_owner(struct owner *owner)
{
    void *task = task_that_runs();
    if (AT(u32, task, OFFSET_task_struct_flags) & TASK_IS_KERNEL_THREAD)
        return 0;
    owner->pid = AT(u32, task, OFFSET_task_struct_tgid);
    owner->uid = bpf_get_current_uid_gid();
    owner->cgroup = bpf_get_current_cgroup_id();
    /* The process's name, not the thread's: threads are often renamed. */
    char *name = AT(char *, task, OFFSET_task_struct_group_leader) + OFFSET_task_struct_comm;
    AT(u64, owner->comm, 0) = AT(u64, name, 0);
    AT(u64, owner->comm, 8) = AT(u64, name, 8);
    return 1;
}

/* Any task's owner, through its structs: also where the helpers about the current task may not be called. */
static inline void task_owner(u64 task, struct owner *owner)
{
    u64 pointer = 0;
    READ(owner->pid, task, OFFSET_task_struct_tgid);
    READ(pointer, task, OFFSET_task_struct_group_leader);
    read_kernel(owner->comm, sizeof(owner->comm), (void *)(pointer + OFFSET_task_struct_comm));
    READ(pointer, task, OFFSET_task_struct_real_cred);
    READ(owner->uid, pointer, OFFSET_cred_uid);
    READ(pointer, task, OFFSET_task_struct_cgroups);
    READ(pointer, pointer, OFFSET_css_set_dfl_cgrp);
    READ(pointer, pointer, OFFSET_cgroup_kn);
    READ(owner->cgroup, pointer, OFFSET_kernfs_node_id);
}

/* A pointer that the verifier knows as a socket, as a number. */
static inline u64 number_of(void *socket)
{
    u64 pointer = (u64)socket, number = 0;
    read_kernel(&number, sizeof(number), &pointer);
    return number;
}

BPF_TABLE("percpu_array", u32, u64, own_addresses, 1);

/* The same without a call: the verifier takes the difference of two pointers for a number. `own_address` is in that map. */
static inline u64 number_beside(void *pointer, volatile u64 *own_address)
{
    *own_address = (u64)own_address;
    u64 address = *own_address, number = (u64)pointer;
    asm volatile("%0 -= %1" : "+r"(number) : "r"(own_address));
    return number + address;
}

/* The process that sends, in its own context: packets of a process's datagram socket are never sent by anybody else. A
 * socket without a file is the kernel's own: it answers from whatever context it is in. */
static inline int sender_of(u64 sk, struct owner *owner)
{
    u64 socket = 0, file = 0, task = bpf_get_current_task();
    u32 flags = 0;
    u16 type = 0;
    READ(socket, sk, OFFSET_sock_sk_socket);
    READ(type, sk, OFFSET_sock_sk_type);
    if (!socket || (type != 2 && type != 3))                   /* SOCK_DGRAM, SOCK_RAW */
        return 0;
    READ(file, socket, OFFSET_socket_file);
    READ(flags, task, OFFSET_task_struct_flags);
    if (!file || (flags & TASK_IS_KERNEL_THREAD))
        return 0;
    task_owner(task, owner);
    return 1;
}

enum { IPV6_HEADER = 40 };

/* Where the payload of an IPv6 packet begins: behind its hop-by-hop, routing and destination options. `protocol`: what its
 * header says comes next, then what the payload is. */
static inline u32 behind_options(u8 *packet, u8 *end, u8 *protocol)
{
    u32 offset = IPV6_HEADER;
#pragma unroll
    for (int more = 0; more < 3; more++) {
        u8 *option = packet + offset;
        if ((*protocol != 0 && *protocol != 43 && *protocol != 60) || offset > 512 || option + 8 > end)
            break;
        *protocol = option[0];
        offset += option[1] * 8 + 8;
    }
    return offset;
}
