"""Cumulative counters -> deltas: what was already counted of each flow that lives longer than one row.

Only flows that have had a row (or a baseline) are kept, in one sorted array: a connection that opens and closes
between two scans never enters it.
"""

from __future__ import annotations

import numpy as np

COUNTERS = ("sent", "received", "segments_out", "segments_in", "retransmits")
_LIVE = np.dtype(
    [("id", "u8"), ("flow_id", "i8"), ("time", "u8"), ("duplicate", "?"), ("rows", "u4"), ("misses", "u1")]
    + [(name, "u8") for name in COUNTERS]
)
# A flow that so many scans in a row did not meet is gone: its last record was lost.
_MISSES_UNTIL_GONE = 3


class LiveFlows:
    """The flows of which a part is counted already, and the numbering of all flows (`flow_id`, from `first_id`)."""

    def __init__(self, first_id: int = 1) -> None:
        self._known = np.empty(0, _LIVE)
        self._next_id = first_id
        self._ended: list[tuple[np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._known)

    def deltas(self, records: np.ndarray) -> dict[str, np.ndarray]:
        """What is new in each record: one array per counter (int64), `since` (ns: end of the flow's last row, or its
        start, or the record's own time when that is unknown), `flow_id`, `first` (no row before) and `duplicate`.

        A counter never goes back: a value that was read in the middle of a change is set right by the next record.
        """
        position, hit = self._find(records["id"])
        before = self._known[position] if len(self._known) else np.zeros(len(records), _LIVE)
        found: dict[str, np.ndarray] = {}
        for name in COUNTERS:
            now, base = records[name].astype(np.int64), before[name].astype(np.int64)
            found[name] = np.maximum(now - np.where(hit, base, 0), 0)
        born = np.where(records["start"] > 0, records["start"], records["time"])
        found["since"] = np.minimum(np.where(hit, before["time"], born), records["time"])
        fresh = ~hit
        numbers = np.cumsum(fresh) - 1 + self._next_id
        self._next_id += int(fresh.sum())
        found["flow_id"] = np.where(hit, before["flow_id"], numbers)
        found["first"] = ~(hit & (before["rows"] > 0))
        found["duplicate"] = hit & before["duplicate"]
        return found

    def keep(
        self, records: np.ndarray, flow_id: np.ndarray, *, rows: bool = True, duplicate: np.ndarray | None = None
    ) -> None:
        """Remember the counters of live flows after a scan; `rows` False: a baseline, of which no row was written."""
        position, hit = self._find(records["id"])
        fresh = np.zeros(len(records), _LIVE)
        for name in ("id", "time", *COUNTERS):
            fresh[name] = records[name]
        fresh["flow_id"] = flow_id
        fresh["rows"] = rows
        if duplicate is not None:
            fresh["duplicate"] = duplicate
        if hit.any():
            before = self._known[position[hit]]
            for name in COUNTERS:
                fresh[name][hit] = np.maximum(fresh[name][hit], before[name])
            fresh["duplicate"][hit] |= before["duplicate"]
            fresh["rows"][hit] += before["rows"]
        rest = np.ones(len(self._known), bool)
        rest[position[hit]] = False
        others = self._known[rest]
        if rows:
            others["misses"] += 1
            others = others[others["misses"] < _MISSES_UNTIL_GONE]
        merged = np.concatenate([others, fresh])
        self._known = merged[np.argsort(merged["id"], kind="stable")]

    def reserve(self, count: int) -> int:
        """Take so many numbers in a row for flows that are kept elsewhere; returns the first."""
        first = self._next_id
        self._next_id += count
        return first

    def number(self, ids: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The flow_id (int64) of flows of which something is to be said beside their rows; shape (len(ids),).

        A flow that had no row yet gets its number now, and keeps it: `starts` (ns) is when it began. One that has ended
        not longer ago than the last but one call of `remember` still has its own.
        """
        found = np.zeros(len(ids), np.int64)
        position, hit = self._find(ids)
        if hit.any():
            found[hit] = self._known["flow_id"][position[hit]]
        for known, flow_id in self._ended:
            rest = np.flatnonzero(~hit)
            order = np.argsort(known)
            at = order[np.minimum(np.searchsorted(known, ids[rest], sorter=order), len(known) - 1)]
            ended = known[at] == ids[rest]
            found[rest[ended]] = flow_id[at[ended]]
            hit[rest[ended]] = True
        if not hit.all():
            unknown, first, inverse = np.unique(ids[~hit], return_index=True, return_inverse=True)
            fresh = np.zeros(len(unknown), _LIVE)
            fresh["id"], fresh["time"] = unknown, starts[~hit][first]
            fresh["flow_id"] = np.arange(self._next_id, self._next_id + len(unknown))
            self._next_id += len(unknown)
            found[~hit] = fresh["flow_id"][inverse]
            merged = np.concatenate([self._known, fresh])
            self._known = merged[np.argsort(merged["id"], kind="stable")]
        return found

    def forget(self, ids: np.ndarray) -> None:
        """Drop flows that have ended."""
        if len(self._known):
            position, hit = self._find(ids)
            if hit.any():
                self._known = np.delete(self._known, position[hit])

    def remember(self, ids: np.ndarray, flow_id: np.ndarray) -> None:
        """The numbers of flows that have ended: `number` still knows them, until the next but one call."""
        self._ended = [*self._ended[-1:], (ids, flow_id)]

    def _find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not len(self._known):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), bool)
        position = np.minimum(np.searchsorted(self._known["id"], ids), len(self._known) - 1)
        return position, self._known["id"][position] == ids
