// How long connections wait in the accept queue until the server takes them.
//
// A server that accepts slowly makes its clients wait although the network and its own answers are fast: the wait is not
// in its log, because it had not seen the connection yet. Connections that are taken by accept() or accept4() are seen;
// those that io_uring takes are not. The tracepoints at the end of accept make every system call of the host a little
// slower while this runs.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

// @table accept_latency: One row per connection that a server accepted.
struct accepted {
    kernel_time time;            // when accept returned it
    u64 delay_ns;                // ns: from established, when it entered the queue, to accepted
    ip_address client_address;   // the initiator's address
    ip_address server_address;   // this end's address
    u16 client_port;             // the initiator's port
    u16 server_port;             // the port that was listened to
    s32 process_pid;             // process that accepted it
    char process_name[16];       // its name
    u32 netns;                   // inode of the network namespace
};

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 65536);
    __type(key, u64);
    __type(value, u64);
} established SEC(".maps");

SEC("raw_tp/inet_sock_set_state")
int note_established(struct bpf_raw_tracepoint_args *ctx)
{
    u64 sk = ctx->args[0];
    u64 now = bpf_ktime_get_boot_ns();
    if (ctx->args[1] == TCP_SYN_RECV && ctx->args[2] == TCP_ESTABLISHED)
        bpf_map_update_elem(&established, &sk, &now, BPF_ANY);
    return 0;
}

static __always_inline int taken(long descriptor)
{
    struct task_struct *task = (struct task_struct *)bpf_get_current_task();
    struct file **files = BPF_CORE_READ(task, files, fdt, fd);
    struct file *file = 0;
    struct socket *socket;
    struct accepted row = {};
    u64 sk, *since;
    if (descriptor < 0 || bpf_probe_read_kernel(&file, sizeof(file), files + descriptor))
        return 0;
    socket = (struct socket *)BPF_CORE_READ(file, private_data);
    sk = (u64)BPF_CORE_READ(socket, sk);
    since = bpf_map_lookup_elem(&established, &sk);
    if (!since)
        return 0;
    row.time = bpf_ktime_get_boot_ns();
    row.delay_ns = row.time - *since;
    bpf_map_delete_elem(&established, &sk);
    row.client_address = remote_address((void *)sk);
    row.server_address = local_address((void *)sk);
    row.client_port = remote_port((void *)sk);
    row.server_port = local_port((void *)sk);
    row.netns = netns_of((void *)sk);
    row.process_pid = process_id(task);
    process_name(row.process_name, task);
    emit(&row);
    return 0;
}

SEC("tp/syscalls/sys_exit_accept4")
int take4(struct trace_event_raw_sys_exit *ctx)
{
    return taken(ctx->ret);
}

SEC("tp/syscalls/sys_exit_accept")
int take(struct trace_event_raw_sys_exit *ctx)
{
    return taken(ctx->ret);
}

char LICENSE[] SEC("license") = "GPL";
