// How long processes that a received packet woke had to wait for a processor.
//
// A server on a busy host answers late though the packet came in time: it was ready to run, and did not. Rows are written
// from LEAST_NS on, so that a host without the problem writes next to none. It runs at every context switch of the host,
// which a host with hundreds of thousands of them per second feels.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define LEAST_NS 100000
#define NET_RX 3

// @table network_wakeups: One row per wait of 0.1 ms or more between a packet that woke a thread and its running.
struct waited {
    kernel_time time;        // when it got a processor
    u64 delay_ns;            // ns: how long it was ready to run before
    s32 process_pid;         // its process
    s32 thread_id;           // the thread
    char process_name[16];   // the process's name
    u32 processor;           // processor that it got
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, u32);
    __type(value, u32);
} receiving SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, 16384);
    __type(key, u32);
    __type(value, u64);
} woken SEC(".maps");

static __always_inline void set_receiving(u64 softirq, u32 on)
{
    u32 zero = 0, *flag = bpf_map_lookup_elem(&receiving, &zero);
    if (flag && softirq == NET_RX)
        *flag = on;
}

SEC("raw_tp/softirq_entry")
int softirq_begins(struct bpf_raw_tracepoint_args *ctx)
{
    set_receiving(ctx->args[0], 1);
    return 0;
}

SEC("raw_tp/softirq_exit")
int softirq_ends(struct bpf_raw_tracepoint_args *ctx)
{
    set_receiving(ctx->args[0], 0);
    return 0;
}

SEC("raw_tp/sched_waking")
int wakes(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *task = (struct task_struct *)ctx->args[0];
    u32 zero = 0, thread, *flag = bpf_map_lookup_elem(&receiving, &zero);
    u64 now = bpf_ktime_get_boot_ns();
    if (!flag || !*flag)
        return 0;
    thread = BPF_CORE_READ(task, pid);
    bpf_map_update_elem(&woken, &thread, &now, BPF_ANY);
    return 0;
}

SEC("raw_tp/sched_switch")
int switches(struct bpf_raw_tracepoint_args *ctx)
{
    struct task_struct *before = (struct task_struct *)ctx->args[1];
    struct task_struct *next = (struct task_struct *)ctx->args[2];
    struct waited row = {};
    u32 thread = BPF_CORE_READ(before, pid);
    u64 *since;
    /* It was running when it was woken: it does not wait because of that. */
    bpf_map_delete_elem(&woken, &thread);
    row.thread_id = BPF_CORE_READ(next, pid);
    since = bpf_map_lookup_elem(&woken, &row.thread_id);
    if (!since)
        return 0;
    row.time = bpf_ktime_get_boot_ns();
    row.delay_ns = row.time - *since;
    bpf_map_delete_elem(&woken, &row.thread_id);
    if (row.delay_ns < LEAST_NS)
        return 0;
    row.process_pid = process_id(next);
    process_name(row.process_name, next);
    row.processor = bpf_get_smp_processor_id();
    emit(&row);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
