/* What a program of netrec may use besides C, the kernel's helpers, and the kernel's structs, which need no header: those
 * that it names are declared from the running kernel's BTF, with the members that it names. See docs/programs.md. */

typedef u64 kernel_time;                        /* of bpf_ktime_get_boot_ns(): becomes UTC */
typedef struct { u64 high, low; } ip_address;   /* IPv4 as ::ffff:a.b.c.d; all zero: unknown */

#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))
#define __weak
#define barrier() asm volatile("" : : : "memory")
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohl(x) __builtin_bswap32(x)
#define bpf_htonl(x) __builtin_bswap32(x)

/* By their numbers: where bcc cannot read /proc/kallsyms it puts the old bpf_probe_read in their place, which programs of
 * cgroups may not call. */
static long (*netrec_read_user)(void *to, u32 size, const void *from) = (void *)112;
static long (*netrec_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*netrec_read_user_text)(void *to, u32 size, const void *from) = (void *)114;
static long (*netrec_read_kernel_text)(void *to, u32 size, const void *from) = (void *)115;
static u64 (*netrec_current_task)(void) = (void *)35; /* bcc would read through what its own returns, macros and all */
#define bpf_get_current_task() netrec_current_task()
#define bpf_probe_read_user(to, size, from) netrec_read_user(to, size, from)
#define bpf_probe_read_kernel(to, size, from) netrec_read_kernel(to, size, from)
#define bpf_probe_read_user_str(to, size, from) netrec_read_user_text(to, size, from)
#define bpf_probe_read_kernel_str(to, size, from) netrec_read_kernel_text(to, size, from)
#define bpf_probe_read(to, size, from) netrec_read_kernel(to, size, from)

/* BPF_CORE_READ(task, group_leader, pid): follows pointers, 0 where one is bad. Arrays: BPF_CORE_READ_INTO(&to, ...). */
#define NETREC_TYPE(pointer, field) typeof(((typeof(*(pointer)) *)0)->field)
#define NETREC_PLACE(pointer, field) (void *)((u64)(pointer) + __builtin_offsetof(typeof(*(pointer)), field))
#define NETREC_1(p, a) ({ __auto_type __from = (p); NETREC_TYPE(__from, a) __value; \
    __builtin_memset(&__value, 0, sizeof(__value)); \
    netrec_read_kernel(&__value, sizeof(__value), NETREC_PLACE(__from, a)); __value; })
#define NETREC_2(p, a, b) NETREC_1(NETREC_1(p, a), b)
#define NETREC_3(p, a, b, c) NETREC_1(NETREC_2(p, a, b), c)
#define NETREC_4(p, a, b, c, d) NETREC_1(NETREC_3(p, a, b, c), d)
#define NETREC_5(p, a, b, c, d, e) NETREC_1(NETREC_4(p, a, b, c, d), e)
#define NETREC_INTO_1(to, p, a) ({ __auto_type __base = (p); netrec_read_kernel((to), sizeof(*(to)), NETREC_PLACE(__base, a)); })
#define NETREC_INTO_2(to, p, a, b) NETREC_INTO_1(to, NETREC_1(p, a), b)
#define NETREC_INTO_3(to, p, a, b, c) NETREC_INTO_1(to, NETREC_2(p, a, b), c)
#define NETREC_INTO_4(to, p, a, b, c, d) NETREC_INTO_1(to, NETREC_3(p, a, b, c), d)
#define NETREC_INTO_5(to, p, a, b, c, d, e) NETREC_INTO_1(to, NETREC_4(p, a, b, c, d), e)
#define NETREC_CHOOSE(_1, _2, _3, _4, _5, name, ...) name
#define BPF_CORE_READ(pointer, ...) \
    NETREC_CHOOSE(__VA_ARGS__, NETREC_5, NETREC_4, NETREC_3, NETREC_2, NETREC_1)(pointer, __VA_ARGS__)
#define BPF_CORE_READ_INTO(to, pointer, ...) \
    NETREC_CHOOSE(__VA_ARGS__, NETREC_INTO_5, NETREC_INTO_4, NETREC_INTO_3, NETREC_INTO_2, NETREC_INTO_1)(to, pointer, __VA_ARGS__)

/* A bit field, which has no address. */
#define BPF_CORE_READ_BITFIELD_PROBED(pointer, field) ({ \
    u32 __word = BPF_CORE_READ(pointer, field##__word); \
    (__word >> (sizeof(*((typeof(*(pointer)) *)0)->field##__first) - 1)) \
        & (u32)((1ull << sizeof(*((typeof(*(pointer)) *)0)->field##__width)) - 1); })

#define NETREC_READ_AT(to, base, offset) netrec_read_kernel(&(to), sizeof(to), (void *)((u64)(base) + (offset)))

static inline ip_address ip_from_v4(u32 network_order)
{
    ip_address mapped = {0, ((u64)network_order << 32) | 0xffff0000ull};
    return mapped;
}

static inline ip_address netrec_socket_address(const void *sk, u32 v4, u32 v6)
{
    ip_address address = {};
    u16 family = 0;
    u32 short_address = 0;
    NETREC_READ_AT(family, sk, OFFSET_sock_common_skc_family);
    if (family == 10) {
        NETREC_READ_AT(address, sk, v6);
    } else if (family == 2) {
        NETREC_READ_AT(short_address, sk, v4);
        return ip_from_v4(short_address);
    }
    return address;
}

/* Of a struct sock *: this end's and the other end's address and port. */
static inline ip_address local_address(const void *sk)
{
    return netrec_socket_address(sk, OFFSET_sock_common_skc_rcv_saddr, OFFSET_sock_common_skc_v6_rcv_saddr);
}

static inline ip_address remote_address(const void *sk)
{
    return netrec_socket_address(sk, OFFSET_sock_common_skc_daddr, OFFSET_sock_common_skc_v6_daddr);
}

static inline u16 local_port(const void *sk)
{
    u16 port = 0;
    NETREC_READ_AT(port, sk, OFFSET_inet_sock_inet_sport);
    return bpf_ntohs(port);
}

static inline u16 remote_port(const void *sk)
{
    u16 port = 0;
    NETREC_READ_AT(port, sk, OFFSET_sock_common_skc_dport);
    return bpf_ntohs(port);
}

/* The inode number of its network namespace, as in the other tables. */
static inline u32 netns_of(const void *sk)
{
    u64 net = 0;
    u32 number = 0;
    NETREC_READ_AT(net, sk, OFFSET_sock_common_skc_net);
    NETREC_READ_AT(number, net, OFFSET_net_ns + OFFSET_ns_common_inum);
    return number;
}

/* The name (16 bytes) of a task's process, which its threads share: process_name(row.process_name, task). */
static inline void process_name(char *to, const void *task)
{
    u64 leader = 0;
    NETREC_READ_AT(leader, task, OFFSET_task_struct_group_leader);
    netrec_read_kernel(to, 16, (void *)(leader + OFFSET_task_struct_comm));
}

static inline u32 process_id(const void *task)
{
    u32 number = 0;
    NETREC_READ_AT(number, task, OFFSET_task_struct_tgid);
    return number;
}
