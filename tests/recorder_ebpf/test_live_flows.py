"""Deltas of cumulative counters, against the obvious version with one dictionary entry a flow."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from recorder.sources.ebpf.live import COUNTERS, LiveFlows
from recorder.sources.ebpf.records import FLOW


def records(rows: list[dict[str, int]]) -> np.ndarray:
    made = np.zeros(len(rows), FLOW)
    for index, row in enumerate(rows):
        for name, value in row.items():
            made[name][index] = value
    return made


class Obvious:
    def __init__(self) -> None:
        self.known: dict[int, dict[str, int]] = {}
        self.numbers: dict[int, int] = {}

    def row(self, record: dict[str, int], *, keep: bool) -> dict[str, Any]:
        before = self.known.get(record["id"], {})
        number = self.numbers.setdefault(record["id"], len(self.numbers) + 1)
        delta: dict[str, Any] = {name: max(record[name] - before.get(name, 0), 0) for name in COUNTERS}
        delta |= {"flow_id": number, "since": before.get("time", record["start"]), "first": not before}
        if keep:
            self.known[record["id"]] = {name: max(record[name], before.get(name, 0)) for name in COUNTERS} | {
                "time": record["time"]
            }
        else:
            self.known.pop(record["id"], None)
        return delta


def test_deltas_equal_the_obvious_ones() -> None:
    chance = random.Random(7)
    live, obvious = LiveFlows(), Obvious()
    open_flows: dict[int, dict[str, int]] = {}
    clock = 1_000_000
    for _ in range(300):
        clock += 1000
        for _ in range(chance.randrange(4)):
            identity = chance.getrandbits(63)
            open_flows[identity] = {"id": identity, "start": clock, "time": clock} | dict.fromkeys(COUNTERS, 0)
        for flow in open_flows.values():
            for name in COUNTERS:
                # A value that is read in the middle of a change may be a little too small for once.
                flow[name] = max(flow[name] + chance.randrange(-3, 1000), 0)
            flow["time"] = clock
        ended = [flow for flow in open_flows.values() if chance.random() < 0.1]
        for flow in ended:
            del open_flows[flow["id"]]
        scanned = list(open_flows.values())
        for rows, keep in ((ended, False), (scanned, True)):
            chance.shuffle(rows)
            made = records(rows)
            expected = [obvious.row(row, keep=keep) for row in rows]
            found = live.deltas(made)
            for name in (*COUNTERS, "flow_id", "since", "first"):
                assert found[name].tolist() == [row[name] for row in expected], name
            if keep:
                live.keep(made, found["flow_id"])
            else:
                live.forget(made["id"])
        assert len(live) == len(open_flows)


def test_a_baseline_is_not_a_row() -> None:
    live = LiveFlows(first_id=100)
    before = records([{"id": 5, "time": 10, "sent": 1000, "received": 7}])
    numbers = live.deltas(before)["flow_id"]
    live.keep(before, numbers, rows=False, duplicate=np.array([True]))
    found = live.deltas(records([{"id": 5, "time": 30, "sent": 1500, "received": 7}]))
    assert found["sent"].tolist() == [500] and found["received"].tolist() == [0]
    assert found["first"].tolist() == [True] and found["duplicate"].tolist() == [True]
    assert found["since"].tolist() == [10] and found["flow_id"].tolist() == [100]


def test_a_flow_whose_end_was_lost_is_forgotten_after_three_scans() -> None:
    live = LiveFlows()
    gone = records([{"id": 1, "time": 10}])
    live.keep(gone, live.deltas(gone)["flow_id"])
    for scans, left in ((1, 2), (2, 2), (3, 1)):
        alive = records([{"id": 2, "time": 10 + scans}])
        live.keep(alive, live.deltas(alive)["flow_id"])
        assert len(live) == left
