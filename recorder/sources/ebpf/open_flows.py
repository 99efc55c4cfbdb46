"""The connections that are open: those that were there before, a row of each per active timeout, and their owners.

They are read from the kernel by iterators, in the recorder's own time: TCP's own table for the baseline, the programs'
table of sockets (sockets.bpf.h) for the rows, and all open files for owners.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from recorder.bpf import syscalls
from recorder.bpf.compiler import Loaded
from recorder.bpf.namespaces import each_namespace
from recorder.clock import boot_ns
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.live import LiveFlows
from recorder.sources.ebpf.rows import RowMaker
from recorder.sources.ebpf.skips import Skips


class OpenFlows:
    """Rows of what is open, by `maker`; `live` knows what was already counted of each flow.

    `control(place, value)` sets a word of the programs'; with `tcp` false only owners are looked for, those of other
    sockets. Attributes: `listeners`, the link of the iterator over TCP's own table; `owners_known`, a count that the
    reader resets. Raises `CannotRecordError` when the kernel refuses an iterator.
    """

    def __init__(
        self,
        loaded: Loaded,
        live: LiveFlows,
        maker: RowMaker,
        skips: Skips,
        control: Callable[[int, int], None],
        *,
        tcp: bool,
    ) -> None:
        self._live, self._maker, self._skips, self._control, self._tcp = live, maker, skips, control, tcp
        self._links: list[int] = []
        self.listeners = self._link(loaded.functions["bpf_iter__tcp"])
        self._sockets = self._link(loaded.functions["bpf_iter__bpf_map_elem"], loaded.maps["sockets"])
        self._files = self._link(loaded.functions["bpf_iter__task_file"])
        self.owners_known = 0

    def _link(self, function: int, over: int | None = None) -> int:
        link = syscalls.link_iterator(function, over)
        self._links.append(link)
        return link

    def baseline(self, meanwhile: Callable[[], object]) -> None:
        """Enter the sockets that are open already, with what they have counted so far.

        On a host of many namespaces this takes a while: `meanwhile` is called after each.
        """
        parts = []
        for _ in each_namespace() if self._tcp else ():
            parts.append(syscalls.read_iterator(self.listeners))
            meanwhile()
        records = np.frombuffer(b"".join(parts), r.FLOW)
        records = records[records["kind"] == r.KIND_BASELINE]
        self._find_owners()
        if len(records):
            numbers = self._live.deltas(records)["flow_id"]
            self._live.keep(records, numbers, rows=False, duplicate=local_pairs(records))

    def rows(self, age_ns: int) -> Iterator[pa.RecordBatch]:
        """A row (`active`) of each that has had none for so long."""
        records = self.scan(age_ns)
        new = self._live.deltas(records)
        yield from self._batch(records, new, "active")
        self._live.keep(records, new["flow_id"])

    def last_rows(self, before: np.ndarray, ended: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Rows (`forced`) of what is open when the programs are gone.

        Nobody tells any more of what ends now: it has the row of `before`, the scan before they went, unless it is
        among the `ended` (ids), of which they have told.
        """
        records = self.scan(0)
        told = np.concatenate([records["id"], ended])
        records = np.concatenate([records, before[~np.isin(before["id"], told)]])
        yield from self._batch(records, self._live.deltas(records), "forced")

    def scan(self, age_ns: int) -> np.ndarray:
        """The records of those that have had none for so long."""
        self._find_owners()
        if not self._tcp:
            return np.empty(0, r.FLOW)
        self._control(r.CONTROL_SCAN, boot_ns())
        self._control(r.CONTROL_AGE, age_ns)
        return np.frombuffer(syscalls.read_iterator(self._sockets), r.FLOW)

    def close(self) -> None:
        """Let go of the iterators; safe more than once."""
        for link in self._links:
            os.close(link)
        self._links = []

    def _find_owners(self) -> None:
        """Let the kernel look through all open files for the sockets whose owner is not known; and, when it has skipped
        the program that sees them established, for those."""
        self._skips.before_search()
        syscalls.read_iterator(self._files)

    def _batch(self, records: np.ndarray, new: dict[str, np.ndarray], reason: str) -> Iterator[pa.RecordBatch]:
        if len(records):
            yield self._maker.rows(records, new, reason)
            self.owners_known += int(np.count_nonzero(records["owner_source"]))


def local_pairs(records: np.ndarray) -> np.ndarray:
    """True for the server's end of a connection whose client's end is among the records too; shape (len(records),)."""

    def ends(rows: np.ndarray, first: str, second: str) -> np.ndarray:
        key = np.zeros(len(rows), [("a", "V16"), ("b", "V16"), ("p", "u2"), ("q", "u2")])
        key["a"], key["b"] = rows[f"{first}"], rows[f"{second}"]
        key["p"], key["q"] = rows[f"{first}_port"], rows[f"{second}_port"]
        return key.view(f"V{key.itemsize}").ravel()

    server = records["role"] == r.ROLE_SERVER
    clients = set(ends(records[~server], "local", "remote").tolist())
    found = np.zeros(len(records), bool)
    found[server] = [key in clients for key in ends(records[server], "remote", "local").tolist()]
    return found
