"""Flows over several turns of the kernel's maps, from entries that the test makes up."""

from __future__ import annotations

import numpy as np

from recorder.sources.ebpf import datagram_records as d
from recorder.sources.ebpf.datagram_table import DatagramTable

SECOND = 10**9


def entries(rows: list[dict[str, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Of one flow, 10.0.0.1 to 10.0.0.2, port 40000 to 53; a row tells its socket, and what was counted."""
    keys, values = np.zeros(len(rows), d.DATAGRAM_KEY), np.zeros(len(rows), d.DATAGRAM_FLOW)
    for key, value, row in zip(keys, values, rows, strict=True):
        key["local"], key["remote"] = bytes(10) + b"\xff\xff\x0a\0\0\1", bytes(10) + b"\xff\xff\x0a\0\0\2"
        key["local_port"], key["remote_port"], key["protocol"], key["socket"] = 40000, 53, 17, row.pop("socket")
        for name, number in row.items():
            value[name] = number
    return keys, values


def test_sockets_that_share_a_flow_are_one_flow() -> None:
    table = DatagramTable(0, 30 * SECOND, 1000, 7)
    turn = entries(
        [
            {"socket": 2, "first": 2 * SECOND, "last": 3 * SECOND, "received": 20, "packets_received": 2},
            {"socket": 1, "first": SECOND, "last": SECOND, "sent": 5, "packets_sent": 1, "flags": d.SENT_FIRST},
            {"socket": 3, "first": 2 * SECOND, "last": 4 * SECOND, "received": 30, "packets_received": 3},
        ]
    )
    assert table.add(*turn, 10) == 1
    assert (
        table.add(*entries([{"socket": 4, "first": 5 * SECOND, "last": 6 * SECOND, "sent": 1, "packets_sent": 1}]), 11)
        == 0
    )
    (flow,) = table.all()
    assert (flow["flow_id"], flow["since"], flow["flow"]["time"]) == (10, SECOND, 6 * SECOND)
    counted = [int(flow["flow"][name]) for name in ("sent", "received", "segments_out", "segments_in")]
    assert counted == [6, 50, 2, 5]
