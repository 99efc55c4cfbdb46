"""Short flows that are alike become one row: their counters summed, their times averaged, their number kept.

Alike are flows that opened and closed since the last reading with the same client, server and server's port, the same
owner, and the same way of closing. What only a client's port told apart is one; every sum stays exact. A client's port
that a filter names tells more: its flows stay alone, so that the filter finds them, and finds no others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from netrec.filter import Filter
from netrec.filter.nodes import Port, terms
from recorder.sources.ebpf import records as r

SUMMED = ("sent", "received", "segments_out", "segments_in", "retransmits")
_FACTOR = np.uint64(0xFF51AFD7ED558CCD)
_SEED = np.uint64(int.from_bytes(np.random.default_rng().bytes(8), "little"))


def client_ports(given: Filter | None) -> list[tuple[int, int]]:
    """The ports, first and last of each range, that a filter may look for at a client."""
    named = terms(given.expression) if given else ()
    return [(term.low, term.high) for term in named if isinstance(term, Port) and term.direction != "server"]


def together(
    records: np.ndarray, new: dict[str, np.ndarray], closes: np.ndarray, ports: Sequence[tuple[int, int]] = ()
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Records that have ended and what is new of them, each group of flows alike as one.

    `new` is what `LiveFlows.deltas` found; it comes back with `flows` (how many a record stands for) and
    `duration` (their mean, ns) beside. `closes` is a code per record for how it was closed. A group's client port is 0.
    Records of flows that had a row before stay as they are, and those whose client's port is one of `ports` (ranges).
    """
    durations = records["time"].astype(np.int64) - new["since"].astype(np.int64)
    may = new["first"] & (records["start"] > 0)
    port = np.where(records["role"] == r.ROLE_CLIENT, records["local_port"], records["remote_port"])
    for low, high in ports:
        may &= (port < low) | (port > high)
    key = np.where(may, _identity(records, new, closes), np.uint64(0))
    alone = np.flatnonzero(key == 0)
    key[alone] = np.arange(1, len(alone) + 1)  # below what the hash gives: its highest bit is set
    _, first, group, count = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    if len(first) == len(records):
        return records, new | {"flows": np.ones(len(records), np.int64), "duration": durations}
    found = records[first]
    several = count > 1
    new = {
        name: values[first] if name not in SUMMED else _sums(values, group, len(first)) for name, values in new.items()
    }
    new["flows"], new["duration"] = count, _sums(durations, group, len(first)) // count
    new["since"] = _least(records["start"].astype(np.int64), group, len(first)).astype(np.uint64)
    found["start"][several] = new["since"][several]
    found["time"] = _greatest(records["time"].astype(np.int64), group, len(first)).astype(np.uint64)
    latency = records["established"].astype(np.int64) - records["start"].astype(np.int64)
    latency = _mean(latency, group, len(first), records["established"] > 0)
    found["established"] = np.where(latency > 0, found["start"] + latency.astype(np.uint64), 0)
    found["srtt"] = _mean(records["srtt"].astype(np.int64), group, len(first), records["srtt"] > 0)
    smallest = np.where(records["rtt_min"] == 0, np.uint32(0xFFFFFFFF), records["rtt_min"])
    found["rtt_min"] = _least(smallest.astype(np.int64), group, len(first))
    client = found["role"] == r.ROLE_CLIENT
    found["local_port"][several & client] = 0
    found["remote_port"][several & ~client] = 0
    return found, new


def _identity(records: np.ndarray, new: dict[str, np.ndarray], closes: np.ndarray) -> np.ndarray:
    """A hash (uint64, highest bit set) of all that flows must have in common."""
    client = records["role"] == r.ROLE_CLIENT
    found = np.full(len(records), _SEED)
    for name in ("local", "remote", "comm"):
        words = np.ascontiguousarray(records[name]).view(np.uint64).reshape(-1, 2)
        found = _mix(_mix(found, words[:, 0]), words[:, 1])
    port = np.where(client, records["remote_port"], records["local_port"])
    for one in (port, records["cgroup"], records["pid"], records["uid"], records["netns"], records["sampling"], closes):
        found = _mix(found, one.astype(np.uint64))
    for one in (records["role"], records["flags"], records["owner_source"], records["protocol"], new["duplicate"]):
        found = _mix(found, one.astype(np.uint64))
    return found | np.uint64(1 << 63)


def _mix(found: np.ndarray, word: np.ndarray) -> np.ndarray:
    mixed = (found ^ word) * _FACTOR
    return mixed ^ mixed >> np.uint64(32)


def _sums(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    found = np.zeros(groups, np.int64)
    np.add.at(found, group, values)
    return found


def _least(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    found = np.full(groups, np.iinfo(np.int64).max)
    np.minimum.at(found, group, values)
    return found


def _greatest(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    found = np.zeros(groups, np.int64)
    np.maximum.at(found, group, values)
    return found


def _mean(values: np.ndarray, group: np.ndarray, groups: int, known: np.ndarray) -> np.ndarray:
    count = _sums(known.astype(np.int64), group, groups)
    return _sums(np.where(known, values, 0), group, groups) // np.maximum(count, 1)
