"""Rows of UDP, ICMP and other flows: takes the kernel's counts turn by turn, and says when a flow is idle."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from netrec.filter import Filter
from recorder.bpf import syscalls
from recorder.bpf.compiler import Loaded
from recorder.bpf.ring import mapped_array
from recorder.clock import boot_ns
from recorder.sources.ebpf import datagram_records as d
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.cgroup_hooks import attach
from recorder.sources.ebpf.datagram_table import DatagramTable
from recorder.sources.ebpf.gather import client_ports, together
from recorder.sources.ebpf.programs import DATAGRAMS, datagram_slots
from recorder.sources.ebpf.rows import RowMaker

# Flows in user space at most; beyond, those that have been silent longest end early (lack_of_resources).
MAX_LIVE = 100_000


class DatagramSource:
    """Attaches to the root cgroup; `poll` when woken, `rows` once a second, `stop` and `last_rows` at the end.

    `capacity` is that of one of the kernel's maps. `take_ids(n)` reserves n flow ids in a row and returns the first;
    `meanwhile` is called while the kernel lets it wait.
    """

    def __init__(
        self,
        loaded: Loaded,
        maker: RowMaker,
        take_ids: Callable[[int], int],
        capacity: int,
        idle_ns: int,
        meanwhile: Callable[[], object],
    ) -> None:
        self._maps = (loaded.maps["datagrams_even"], loaded.maps["datagrams_odd"])
        slots = datagram_slots(capacity)
        self._slots = mapped_array(loaded.maps["datagram_slots"], d.DATAGRAM_SLOT, 2 * slots).reshape(2, slots)
        self._turns = syscalls.Turns(loaded.maps["control"], r.CONTROL_DATAGRAMS, meanwhile)
        self._maker, self._take_ids, self._capacity = maker, take_ids, capacity
        self._places_taken, self._counted = loaded.maps["datagram_flows"], 0
        self.owners_known = self.rows_made = 0
        self.together = False
        self.filter: Filter | None = None
        now = boot_ns()
        self._table = DatagramTable(now, idle_ns, MAX_LIVE, secrets.randbits(64))
        self._sampled: list[np.ndarray] = []
        self._links = attach(loaded, DATAGRAMS.cgroup_hooks, "record with --protocols tcp")

    def sample(self, interval: int) -> None:
        """The kernel counts 1 in `interval` flows from now on."""
        self._take()
        self._sampled.append(self._table.sample(interval))

    def poll(self) -> None:
        """Take a turn early when the kernel's map is half full."""
        if syscalls.look_up(self._places_taken, 0) - self._counted > self._capacity // 2:
            self._take()

    def rows(self, active_ns: int | None) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Rows of the flows that are over and, with the active timeout `active_ns`, of those that go on."""
        self._take()
        yield from self._rows_before_sampling()
        now = boot_ns()
        yield from self._batch(self._table.idle(now), "idle")
        yield from self._batch(self._table.excess(), "lack_of_resources")
        if active_ns is not None:
            yield from self._batch(self._table.due(active_ns), "active")

    def last_rows(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        """After `stop`: all that is left."""
        self._take()
        yield from self._rows_before_sampling()
        yield from self._batch(self._table.all(), "forced")

    def stop(self) -> None:
        """Detach; safe more than once."""
        for link in self._links:
            os.close(link)
        self._links = []

    def _take(self) -> None:
        counted = syscalls.look_up(self._places_taken, 0)
        if counted == self._counted:
            return
        turn = self._turns.swap()
        keys, values = syscalls.take_pairs(self._maps[turn], d.DATAGRAM_KEY, d.DATAGRAM_FLOW, self._capacity)
        slots = self._slots[turn]
        used = np.flatnonzero(slots["key"]["socket"])
        keys, values = np.concatenate([slots["key"][used], keys]), np.concatenate([slots["flow"][used], values])
        slots[used] = np.zeros((), d.DATAGRAM_SLOT)
        self._counted += len(keys)
        if len(keys):
            first = self._take_ids(0)
            self._take_ids(self._table.add(keys, values, first))

    def _rows_before_sampling(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        sampled, self._sampled = self._sampled, []
        for rows in sampled:
            yield from self._batch(rows, "active")

    def _batch(self, live: np.ndarray, reason: str) -> Iterator[tuple[str, pa.RecordBatch]]:
        if not len(live):
            return
        flow = live["flow"]
        new = {name: flow[name].astype(np.int64) for name in ("sent", "received", "segments_out", "segments_in")}
        new |= {name: live[name] for name in ("flow_id", "since", "duplicate")}
        new |= {"retransmits": np.zeros(len(live), np.int64), "first": live["rows"] == 0}
        self.owners_known += int(np.count_nonzero(flow["owner_source"]))
        self.rows_made += len(live)
        if self.together and reason == "idle":
            flow, new = together(flow, new, np.zeros(len(flow), np.int64), client_ports(self.filter))
        yield "flows", self._maker.rows(flow, new, reason)
