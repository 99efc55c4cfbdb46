"""The running source: every gauge once an interval, in every namespace asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from netrec.errors import CannotRecordError
from netrec.trace.tables import HOST, batch
from recorder.source import CaptureContext, Readiness, SourceHealth
from recorder.sources.host import counters, links, tcp
from recorder.sources.host.gauge import Gauge, Increases
from recorder.sources.host.namespaces import chosen, inside
from recorder.sources.host.socket_diagnostics import tcp_sockets

_DEFAULT_INTERVAL = 10.0
# A last reading sooner after the one before says little, and its rates are noise.
_SHORTEST_SECONDS = 1.0


def readiness(settings: Mapping[str, Any]) -> Readiness:
    """Whether the gauges of the namespaces asked for can be read: each is tried."""
    try:
        for path in chosen(settings.get("host_netns", ())).values():
            with inside(path):
                tcp_sockets()
    except CannotRecordError as problem:
        return Readiness(False, problem.message, problem.hint)
    except PermissionError as problem:
        return Readiness(False, f"the host's gauges need more rights ({problem})", "run it as root")
    except OSError as problem:
        return Readiness(False, f"the host's gauges cannot be read ({problem})", "")
    return Readiness(True)


class HostSource:
    """Gauges now and at every interval from the start; the last reading is made when the recording stops.

    The first reading has no counters: what they grew by is known from the second on.
    """

    def __init__(self, context: CaptureContext) -> None:
        self._host = context.host
        self._interval = float(context.settings.get("host_interval", _DEFAULT_INTERVAL))
        self._names = tuple(context.settings.get("host_netns", ()))
        self._increases: dict[int | None, Increases] = {}
        self._read_at: dict[int | None, float] = {}
        self._due = 0.0
        self._pending: list[pa.RecordBatch] = []

    def capabilities(self) -> set[str]:
        """Sockets and tables of others; entering the other namespaces that were asked for."""
        return {"net_admin", "sys_admin", "sys_ptrace"} if self._names else {"net_admin"}

    def start(self) -> None:
        """Raises `CannotRecordError` when a namespace does not exist or cannot be entered."""
        ready = readiness({"host_netns": self._names})
        if not ready.ready:
            raise CannotRecordError(ready.reason, ready.fix)
        self._pending.append(self._reading())
        self._due = time.monotonic() + self._interval

    def poll(self) -> bool:
        now = time.monotonic()
        if now >= self._due:
            # Readings that were missed (the host slept) are not made up for.
            self._due += self._interval * (1 + (now - self._due) // self._interval)
            self._pending.append(self._reading())
        return False

    def patience(self) -> float:
        return max(self._due - time.monotonic(), 0.0)

    def read(self) -> Iterable[tuple[str, pa.RecordBatch]]:
        pending, self._pending = self._pending, []
        return [("host", reading) for reading in pending]

    def health(self) -> SourceHealth:
        return SourceHealth()

    def stop(self) -> Iterable[tuple[str, pa.RecordBatch]]:
        if time.monotonic() - self._read_at.get(None, 0.0) >= _SHORTEST_SECONDS:
            self._pending.append(self._reading())
        return self.read()

    def close(self) -> None:
        """Nothing is held between readings."""

    def _reading(self) -> pa.RecordBatch:
        moment = int(time.time() * 1e6)
        gauges: list[tuple[int | None, Gauge]] = []
        increases, seconds = self._since(None)
        gauges += [(None, gauge) for gauge in counters.host_wide(increases, seconds)]
        increases.next()
        for inode, path in self._namespaces().items():
            try:
                with inside(path):
                    increases, seconds = self._since(inode)
                    gauges += [(inode, gauge) for gauge in _namespace(increases, seconds)]
                    increases.next()
            except OSError:
                continue  # gone meanwhile
        self._forget(namespace for namespace, _ in gauges)
        return self._batch(moment, gauges)

    def _namespaces(self) -> dict[int, Path]:
        try:
            return chosen(self._names)
        except CannotRecordError:  # one of those asked for has gone: the others stay
            found: dict[int, Path] = {}
            for name in self._names:
                try:
                    found |= chosen((name,))
                except CannotRecordError:
                    continue
            return found

    def _since(self, namespace: int | None) -> tuple[Increases, float]:
        """The namespace's counters, and the seconds since they were read (0: never)."""
        now = time.monotonic()
        seconds = now - self._read_at.get(namespace, now)
        self._read_at[namespace] = now
        return self._increases.setdefault(namespace, Increases()), seconds

    def _forget(self, present: Iterable[int | None]) -> None:
        kept = {None, *present}
        self._increases = {key: value for key, value in self._increases.items() if key in kept}
        self._read_at = {key: value for key, value in self._read_at.items() if key in kept}

    def _batch(self, moment: int, gauges: list[tuple[int | None, Gauge]]) -> pa.RecordBatch:
        rows = len(gauges)
        columns = {
            "time": pa.array([moment] * rows, pa.timestamp("us", tz="UTC")),
            "resource": pa.array([gauge.resource for _, gauge in gauges], pa.string()),
            "used": pa.array([gauge.used for _, gauge in gauges], pa.float64()),
            "limit": pa.array([gauge.limit for _, gauge in gauges], pa.float64()),
            "unit": pa.array([gauge.unit for _, gauge in gauges], pa.string()),
            "netns": pa.array([namespace for namespace, _ in gauges], pa.int64()),
            "source": pa.array(["host"] * rows, pa.string()),
            "host": pa.array([self._host] * rows, pa.string()),
        }
        return batch(HOST, columns, rows)


def _namespace(increases: Increases, seconds: float) -> list[Gauge]:
    """Everything that the network namespace of the calling thread has for itself."""
    return [
        *links.links(increases, seconds),
        *counters.conntrack(increases),
        *tcp.socket_gauges(tcp_sockets()),
        *counters.socket_counts(),
        *counters.protocol_counters(increases),
    ]
