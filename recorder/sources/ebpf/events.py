"""The events table: what the kernel's programs have counted, and the counters of network namespaces beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from netrec.trace.columns import numbers, text
from recorder.bpf import syscalls
from recorder.bpf.compiler import Loaded
from recorder.sources.ebpf import event_records as e
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.event_rows import event_rows
from recorder.sources.ebpf.listen_drops import ListenDrops
from recorder.sources.ebpf.live import LiveFlows
from recorder.sources.ebpf.rows import RowMaker

_EVENT_COUNTER = r.COUNTERS.index("events")
_RECORD = np.dtype(
    [*((name, e.EVENT_KEY[name]) for name in e.EVENT_KEY.names or () if name != "unused")]
    + [(name, e.EVENT[name]) for name in e.EVENT.names or ()]
)


class EventSource:
    """Everything that the events table gets. `take` first, then the flows that have ended are read, then `rows`: so an
    event's flow is still known, and the event carries its number.

    `counters` are the programs' own, `sockets` the link of the iterator over TCP's sockets; `meanwhile` is called while
    the kernel lets it wait.
    """

    def __init__(
        self,
        loaded: Loaded,
        capacity: int,
        counters: syscalls.PerCpuArray,
        sockets: int,
        meanwhile: Callable[[], object],
    ) -> None:
        self._control, self._sockets = loaded.maps["control"], sockets
        self._counts = EventCounts(loaded, capacity, counters, meanwhile)
        self._drops = ListenDrops(self._read_listeners)
        self._taken = [np.empty(0, _RECORD), np.empty(0, _RECORD)]

    def start(self) -> None:
        """Note where counters stand that were there before."""
        self._drops.start()

    def take(self) -> None:
        """Take what has happened since the last call out of the kernel."""
        self._taken = [self._counts.take(), self._drops.records()]

    def rows(self, live: LiveFlows, maker: RowMaker) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Rows of what was taken."""
        (counted, dropped), self._taken = self._taken, [np.empty(0, _RECORD), np.empty(0, _RECORD)]
        if len(counted):
            yield "events", self._counts.rows(counted, live, maker)
        if len(dropped):
            yield from (("events", batch) for batch in self._drops.rows(dropped, maker))

    def _read_listeners(self) -> np.ndarray:
        """The drops of every listener of the calling thread's network namespace."""
        place = np.array([r.CONTROL_LISTENERS], np.uint32)
        syscalls.update(self._control, place, np.ones(1, np.uint64))
        try:
            records = np.frombuffer(syscalls.read_iterator(self._sockets), r.FLOW)
        finally:
            syscalls.update(self._control, place, np.zeros(1, np.uint64))
        return records[records["kind"] == r.KIND_LISTENER]


class EventCounts:
    """Takes the counted events out of the kernel and makes rows of them."""

    def __init__(
        self, loaded: Loaded, capacity: int, counters: syscalls.PerCpuArray, meanwhile: Callable[[], object]
    ) -> None:
        self._maps = (loaded.maps["events_even"], loaded.maps["events_odd"])
        self._turns = syscalls.Turns(loaded.maps["control"], r.CONTROL_EVENTS, meanwhile)
        self._capacity, self._counters, self._counted = capacity, counters, 0
        self._reasons = e.ReasonNames(loaded.enumerations)

    def take(self) -> np.ndarray:
        """What was counted since the last call; shape (events,)."""
        counted = self._counters.one(_EVENT_COUNTER)
        if counted == self._counted:
            return np.empty(0, _RECORD)
        self._counted = counted
        taken = self._maps[self._turns.swap()]
        keys, values = syscalls.take_pairs(taken, e.EVENT_KEY, e.EVENT, self._capacity)
        records = np.zeros(len(keys), _RECORD)
        for source in (keys, values):
            for name in source.dtype.names or ():
                if name != "unused":
                    records[name] = source[name]
        return records

    def rows(self, records: np.ndarray, live: LiveFlows, maker: RowMaker) -> pa.RecordBatch:
        """One row an event of a flow; shape (len(records),)."""
        known = records["id"] != 0
        flow_id = np.zeros(len(records), np.int64)
        if known.any():
            flow_id[known] = live.number(records["id"][known], records["start"][known])
        pairs, which = np.unique(
            records["kind"].astype(np.uint64) << np.uint64(32) | records["reason"], return_inverse=True
        )
        kinds = [int(pair) >> 32 for pair in pairs]
        reasons = [self._reasons.of(kind, int(pair) & 0xFFFFFFFF) for kind, pair in zip(kinds, pairs, strict=True)]
        unnamed = np.array([reason is None for reason in reasons])
        return event_rows(
            records,
            maker,
            {
                "kind": text(which, [e.KINDS[kind] for kind in kinds]),
                "reason": text(which, [reason or "" for reason in reasons], unnamed[which]),
                "flow_id": numbers(flow_id, ~known),
            },
        )
