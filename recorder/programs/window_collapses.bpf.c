// When TCP connections cut their congestion window, and why.
//
// A transfer that is slow although nothing is busy has often lost packets: each time the sender halves its window or, after
// a timeout, begins anew. One row per such moment, with the window before and the one that it aims for. Needs Linux 5.17.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define INFINITE_THRESHOLD 0x7fffffff

// @table window_collapses: One row per moment at which a TCP sender began to reduce its congestion window.
struct collapse {
    kernel_time time;             // when
    ip_address local_address;     // the sender's address: this end
    ip_address remote_address;    // the other end's address
    u16 local_port;               // this end's port
    u16 remote_port;              // the other end's port
    u8 reason;                    // @enum tcp_ca_state: state entered: CWR (told by ECN or its own queue), Recovery (loss), Loss (timeout)
    u8 state_before;              // @enum tcp_ca_state: state before
    u32 window_before;            // segment: congestion window before
    u32 window;                   // segment: congestion window now; reduced step by step unless a timeout cut it at once
    u32 threshold;                // segment: slow start threshold: where the reduction ends (0: BBR has none)
    u32 in_flight;                // segment: sent and not acknowledged
    u32 rtt_us;                   // @scale 1/8 us: smoothed round-trip time
    u32 retransmits;              // segment: retransmitted by this connection until now
    u32 netns;                    // inode of the network namespace
};

SEC("raw_tp/tcp_cong_state_set")
int state_set(struct bpf_raw_tracepoint_args *ctx)
{
    struct tcp_sock *tp = (struct tcp_sock *)ctx->args[0];
    struct collapse row = {.reason = ctx->args[1]};
    if (row.reason < TCP_CA_CWR)
        return 0;
    row.state_before = BPF_CORE_READ_BITFIELD_PROBED(tp, inet_conn.icsk_ca_state);
    if (row.state_before == row.reason)
        return 0;
    row.time = bpf_ktime_get_boot_ns();
    row.local_address = local_address(tp);
    row.remote_address = remote_address(tp);
    row.local_port = local_port(tp);
    row.remote_port = remote_port(tp);
    row.window_before = BPF_CORE_READ(tp, prior_cwnd);
    row.window = BPF_CORE_READ(tp, snd_cwnd);
    row.threshold = BPF_CORE_READ(tp, snd_ssthresh);
    if (row.threshold >= INFINITE_THRESHOLD)
        row.threshold = 0;
    row.in_flight = BPF_CORE_READ(tp, packets_out);
    row.rtt_us = BPF_CORE_READ(tp, srtt_us);
    row.retransmits = BPF_CORE_READ(tp, total_retrans);
    row.netns = netns_of(tp);
    emit(&row);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
