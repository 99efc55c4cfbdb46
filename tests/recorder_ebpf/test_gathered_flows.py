"""Short flows that share a row: alike in all but the client's port, with sums that stay exact."""

from __future__ import annotations

import numpy as np
import pytest

from netrec.filter import Filter
from recorder.row_filter import RowFilter
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.gather import client_ports, together
from recorder.sources.ebpf.live import LiveFlows
from recorder.sources.ebpf.owners import CgroupResolver
from recorder.sources.ebpf.rows import RowMaker, closes

SECOND = 1_000_000_000


def flows(count: int, **fields: object) -> np.ndarray:
    """Records of client ends that are alike but for their ports and counters."""
    records = np.zeros(count, r.FLOW)
    records["id"] = np.arange(1, count + 1)
    records["start"] = 10 * SECOND + np.arange(count) * 1_000_000
    records["established"] = records["start"] + 200_000
    records["time"] = records["start"] + 2_000_000
    records["sent"] = 100 + np.arange(count)
    records["received"] = 1000
    records["segments_out"] = 5
    records["srtt"] = 80 * 8
    records["rtt_min"] = 50 + np.arange(count)
    records["local"], records["remote"] = b"\x01" * 16, b"\x02" * 16
    records["local_port"], records["remote_port"] = 40_000 + np.arange(count), 443
    records["role"], records["protocol"], records["pid"] = r.ROLE_CLIENT, 6, 7
    records["flags"] = r.FLAG_ESTABLISHED
    for name, value in fields.items():
        records[name] = value
    return records


def gathered(records: np.ndarray, live: LiveFlows | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return together(records, (live or LiveFlows()).deltas(records), closes(records))


def test_sums_means_and_number() -> None:
    records = flows(10)
    found, new = gathered(records)
    assert len(found) == 1
    assert (new["flows"][0], new["sent"][0], new["received"][0]) == (10, int(records["sent"].sum()), 10_000)
    assert (new["segments_out"][0], new["duration"][0]) == (50, 2_000_000)
    assert (found["start"][0], new["since"][0]) == (10 * SECOND, 10 * SECOND)
    assert found["time"][0] == records["time"].max()
    assert found["established"][0] - found["start"][0] == 200_000
    assert (found["srtt"][0], found["rtt_min"][0]) == (640, 50)
    assert (found["local_port"][0], found["remote_port"][0]) == (0, 443)


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("port 443", 0),
        ("src port 40003", 1),
        ("port 40003 or tcp src portrange 40005-40007", 4),
        ("not port 40003", 1),
        ("dst port 40003", 0),
    ],
)
def test_a_clients_port_that_a_filter_names_stays_known(text: str, alone: int) -> None:
    """What the filter keeps of gathered rows is what it keeps of the flows one by one."""
    given = Filter.read(text)
    assert given is not None
    records = flows(20)
    live = LiveFlows()
    found, new = together(records, live.deltas(records), closes(records), client_ports(given))
    assert int((new["flows"] == 1).sum()) == alone

    def kept(some: np.ndarray, more: dict[str, np.ndarray]) -> int:
        cgroups = CgroupResolver()
        try:
            rows = RowMaker("host", cgroups, lambda: 0).rows(some, more, "end")
        finally:
            cgroups.close()
        chosen = RowFilter(given).keep("flows", rows)
        return sum(value or 1 for value in chosen.column("flow_count").to_pylist())

    assert kept(found, new) == kept(records, LiveFlows().deltas(records))


def test_what_differs_stays_apart() -> None:
    parts = [
        flows(2),
        flows(2, remote_port=80),
        flows(2, pid=8),
        flows(2, remote=b"\x03" * 16),
        flows(2, error=104),
        flows(2, sampling=4),
        flows(2, role=r.ROLE_SERVER),
    ]
    records = np.concatenate(parts)
    records["id"] = np.arange(len(records)) + 1
    records["local_port"][-2:], records["remote_port"][-2:] = 443, (50_001, 50_002)
    found, new = gathered(records)
    assert len(found) == len(parts)
    assert new["flows"].tolist() == [2] * len(parts)
    server = found["role"] == r.ROLE_SERVER
    assert (found["local_port"][server], found["remote_port"][server]) == (443, 0)


def test_flows_that_had_a_row_before_or_whose_start_is_unknown_stay_alone() -> None:
    records = np.concatenate([flows(3), flows(2, start=0)])
    records["id"] = np.arange(5) + 1
    live = LiveFlows()
    early = flows(1)
    live.keep(early, live.deltas(early)["flow_id"])
    _, new = gathered(records, live)
    assert sorted(new["flows"].tolist()) == [1, 1, 1, 2]
    assert new["sent"].sum() == records["sent"].sum() - early["sent"].sum()


def test_nothing_alike_is_left_as_it_is() -> None:
    records = flows(3, remote_port=[1, 2, 3])
    found, new = gathered(records)
    assert found is records
    assert new["flows"].tolist() == [1, 1, 1]
