"""What datagrams.bpf.c counts: its structs as NumPy dtypes, and its flags."""

from __future__ import annotations

import numpy as np

DATAGRAM_KEY = np.dtype(
    [
        ("socket", "u8"),
        ("local", "V16"),
        ("remote", "V16"),
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("protocol", "u1"),
        ("type", "u1"),
        ("unused", "u1", 2),
    ],
    align=True,
)
DATAGRAM_FLOW = np.dtype(
    [
        ("first", "u8"),  # ns, CLOCK_BOOTTIME, as is last
        ("last", "u8"),  # of many packets: within a jiffy
        ("sent", "u8"),
        ("received", "u8"),
        ("packets_sent", "u4"),
        ("packets_received", "u4"),
        ("tick", "u4"),
        ("netns", "u4"),
        ("owner_source", "u1"),
        ("flags", "u1"),
        ("unused", "u1", 6),
        ("cgroup", "u8"),
        ("pid", "u4"),
        ("uid", "u4"),
        ("comm", "S16"),
    ],
    align=True,
)
# A slot of a turn; its key's socket is 0 in one that is free.
DATAGRAM_SLOT = np.dtype([("key", DATAGRAM_KEY), ("flow", DATAGRAM_FLOW), ("unused", "u8", 7)], align=True)
SENT_FIRST, NEW_SOCKET = 1, 2
