"""What the eBPF programs write: `struct flow` of ring.bpf.h as a NumPy dtype, and its codes."""

from __future__ import annotations

import numpy as np

FLOW = np.dtype(
    [
        ("sk", "u8"),
        ("id", "u8"),
        ("time", "u8"),  # ns, CLOCK_BOOTTIME, as are start and established
        ("start", "u8"),
        ("established", "u8"),
        ("sent", "u8"),
        ("received", "u8"),
        ("cgroup", "u8"),
        ("local", "V16"),
        ("remote", "V16"),
        ("segments_out", "u4"),
        ("segments_in", "u4"),
        ("retransmits", "u4"),
        ("srtt", "u4"),  # us * 8, as the kernel keeps it
        ("rtt_min", "u4"),
        ("pid", "u4"),
        ("uid", "u4"),
        ("netns", "u4"),
        ("error", "u4"),
        ("sampling", "u4"),  # 1 in so many flows was recorded when this one was chosen
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("family", "u1"),
        ("role", "u1"),
        ("flags", "u1"),
        ("kind", "u1"),
        ("owner_source", "u1"),
        ("state", "u1"),
        ("protocol", "u1"),
        ("reported", "u1"),
        ("comm", "S16"),
    ],
    align=True,
)

ROLE_CLIENT, ROLE_SERVER = 1, 2
KIND_CLOSED, KIND_ALIVE, KIND_BASELINE, KIND_LISTENER = 1, 2, 3, 4
FLAG_RESET_SENT, FLAG_RESET_RECEIVED, FLAG_DUPLICATE, FLAG_ROLE_INFERRED, FLAG_ESTABLISHED = 1, 2, 4, 8, 16
OWNER_SOURCES = ["unknown", "connect", "close", "listener", "scan", "send", "create"]
COUNTERS = (
    "lost_ring",
    "lost_map",
    "inserted",
    "deleted",
    "pending",
    "ownerless",
    "events",
    "lost_events",
    "lost_datagrams",
    "lost_dns",
    "run_time",
)
# Places of the array `control`.
CONTROL_SCAN, CONTROL_AGE, CONTROL_LISTENERS, CONTROL_EVENTS, CONTROL_DATAGRAMS = range(5)
CONTROL_SAMPLING, CONTROL_PENDING, CONTROL_TIMING, CONTROL_UNSEEN, CONTROL_SKIPPED = 5, 6, 7, 8, 9
