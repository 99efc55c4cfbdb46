"""What only counters tell: connections that listeners dropped, and zero windows, for every network namespace.

No tracepoint tells of a SYN that finds a full queue. The kernel counts it per namespace (/proc/net/netstat) and per
listening socket (sk_drops); the latter is read, by the iterator over TCP's sockets, only where the former has grown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from netrec.trace.columns import text
from recorder.bpf.namespaces import each_namespace, network_namespaces
from recorder.clock import boot_ns
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.event_rows import event_rows
from recorder.sources.ebpf.rows import RowMaker

NETSTAT = Path("/proc/thread-self/net/netstat")
COUNTERS = ("ListenOverflows", "ListenDrops", "TCPToZeroWindowAdv", "TCPWinProbe")
_KINDS = ["listen_overflow", "syn_drop", "zero_window"]
_OVERFLOW, _DROP, _ZERO_WINDOW = range(3)
_NO_CLIENT = ("client_address", "client_port")
_NO_ADDRESSES = (*_NO_CLIENT, "server_address", "server_port", "network_type", "role")
# New namespaces are looked for so often: it takes a look at every process.
_LOOK_AROUND_SECONDS = 10.0
_TCP = 6
_FROM_FLOW = ("local", "local_port", "pid", "uid", "cgroup", "comm", "owner_source")
_RECORD = np.dtype(
    [(name, r.FLOW[name]) for name in (*_FROM_FLOW, "remote", "remote_port", "netns", "role", "protocol")]
    + [(name, r.FLOW[name]) for name in ("time", "id", "kind")]
    + [("count", "i8"), ("event", "i4"), ("why", "i4")]
)


class ListenDrops:
    """`read_listeners` reads the drops of every listener of this thread's namespace: records of kind LISTENER."""

    def __init__(self, read_listeners: Callable[[], np.ndarray]) -> None:
        self._read_listeners = read_listeners
        self._counters: dict[int, np.ndarray] = {}
        self._listeners: dict[tuple[int, int], int] = {}
        self._early: dict[int, int] = {}
        self._namespaces: dict[int, Path] = {}
        self._next_look = 0.0

    def start(self) -> None:
        """Note where everything stands."""
        self._look_around()
        for inode in each_namespace(self._namespaces):
            self._counters[inode] = read_counters()
            for listener in self._read_listeners():
                self._listeners[int(listener["sk"]), int(listener["local_port"])] = int(listener["received"])

    def records(self) -> np.ndarray:
        """What was counted since the last call; shape (events,)."""
        if time.monotonic() >= self._next_look:
            self._look_around()
        found = [record for inode in each_namespace(self._namespaces) for record in self._of_namespace(inode)]
        return np.stack(found) if found else np.empty(0, _RECORD)

    def rows(self, records: np.ndarray, maker: RowMaker) -> Iterator[pa.RecordBatch]:
        """One row a listener (or namespace, where no listener can be named), kind and interval."""
        listener = records["local_port"] != 0
        for part, unknown in ((records[listener], _NO_CLIENT), (records[~listener], _NO_ADDRESSES)):
            if len(part):
                named = {"kind": text(part["event"], _KINDS), "reason": text(part["why"], list(COUNTERS))}
                yield event_rows(part, maker, named | dict.fromkeys(unknown))

    def _look_around(self) -> None:
        self._namespaces = network_namespaces()
        self._next_look = time.monotonic() + _LOOK_AROUND_SECONDS
        for gone in self._counters.keys() - self._namespaces.keys():
            del self._counters[gone]
            self._early.pop(gone, None)

    def _of_namespace(self, inode: int) -> Iterator[np.ndarray]:
        now = read_counters()
        # A namespace that was not there at the start began with zero.
        grown = now - self._counters.get(inode, np.zeros(len(COUNTERS), np.int64))
        self._counters[inode] = now
        overflows, drops, *zero_windows = (int(one) for one in grown)
        if drops > 0:
            yield from self._of_listeners(inode, overflows, drops)
        for index, count in enumerate(zero_windows, start=2):
            if count > 0:
                yield self._record(None, inode, count, _ZERO_WINDOW, index)

    def _of_listeners(self, inode: int, overflows: int, drops: int) -> Iterator[np.ndarray]:
        """Drops by listener; what no listener has counted (it is gone) as a row of the namespace."""
        # Every overflow is a drop. Which of a listener's drops were overflows it does not tell: mostly they all are.
        only = _OVERFLOW if overflows == drops else _DROP if not overflows else None
        grown = [(listener, count) for listener in self._read_listeners() if (count := self._grown(listener))]
        # A listener may have counted more than the namespace's counters, which were read before.
        rest = drops - self._early.pop(inode, 0) - sum(count for _, count in grown)
        if rest < 0:
            self._early[inode] = -rest
        if only is None:
            yield self._record(None, inode, overflows, _OVERFLOW, _OVERFLOW)
            yield self._record(None, inode, drops - overflows, _DROP, _DROP)
            return
        for listener, count in grown:
            yield self._record(listener, inode, count, only, only)
        if rest > 0:
            yield self._record(None, inode, rest, only, only)

    def _grown(self, listener: np.ndarray) -> int:
        """Drops of a listener since it was last read."""
        key, count = (int(listener["sk"]), int(listener["local_port"])), int(listener["received"])
        before = self._listeners.get(key, 0)
        self._listeners[key] = count
        return count - before if count >= before else count  # less: another socket at the same place

    def _record(self, listener: np.ndarray | None, inode: int, count: int, event: int, why: int) -> np.ndarray:
        record = np.zeros((), _RECORD)
        if listener is not None:
            for name in _FROM_FLOW:
                record[name] = listener[name]
        record["time"] = boot_ns()
        record["netns"], record["count"], record["event"], record["why"] = inode, count, event, why
        record["role"], record["protocol"], record["id"], record["kind"] = r.ROLE_SERVER, _TCP, 0, 0
        return record


def read_counters(path: Path = NETSTAT) -> np.ndarray:
    """COUNTERS of the calling thread's network namespace; int64 of shape (len(COUNTERS),)."""
    lines = path.read_text().splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        if names.startswith("TcpExt:"):
            found = dict(zip(names.split(), values.split(), strict=False))
            return np.array([int(found.get(name, 0)) for name in COUNTERS], np.int64)
    return np.zeros(len(COUNTERS), np.int64)
