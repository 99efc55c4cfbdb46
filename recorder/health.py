"""The recorder about itself: what it uses, what it lost, when it was not recording."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from netrec.trace import columns, tables
from recorder.source import Effort, SourceHealth

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
# Gauges say how things were, not how much was added: the latest or the highest of an interval counts.
_LATEST = {"map_limit", "ring_limit"}
_HIGHEST = {"map_used", "ring_used"}


def add(total: SourceHealth, more: SourceHealth) -> None:
    """Add what a source says of one more second to what is known of the interval."""
    for item in fields(SourceHealth):
        old, new = getattr(total, item.name), getattr(more, item.name)
        if item.name in _LATEST:
            value = new if new is not None else old
        elif item.name in _HIGHEST:
            value = old if new is None else new if old is None else max(old, new)
        elif old is None or new is None:
            value = old if new is None else new
        else:
            value = old + new
        setattr(total, item.name, value)


@dataclass
class Usage:
    """CPU time (microseconds, user and system) and resident memory (bytes) of a process and its descendants."""

    cpu_us: int
    memory_bytes: int

    @classmethod
    def now(cls) -> Usage:
        """Of this process and all that it started; children that have ended count their CPU."""
        cpu = memory = 0
        waiting = [os.getpid()]
        while waiting:
            process = waiting.pop()
            try:
                stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                memory += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
                waiting += _children(process)
                cpu += time.clock_gettime_ns(_cpu_clock(process)) // 1000
            except OSError:
                continue
            # Of children that it has waited for: cutime and cstime, fields 16 and 17 of proc(5), in ticks.
            cpu += sum(int(ticks) for ticks in stat[13:15]) * _TICK_US
        return cls(cpu, memory)


def written_bytes() -> int:
    """What this process has written to files so far (and to pipes: little), as the kernel counts it."""
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "wchar":
            return int(value)
    return 0


def _cpu_clock(process: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) makes it: exact, where /proc counts ticks."""
    return (~process << 3) | 2


def _children(process: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@dataclass
class SourceRecord:
    """What is known of one source since its last health row. `losses`: its own words for the counters of losses."""

    name: str
    losses: dict[str, str] = field(default_factory=dict)
    interval: SourceHealth = field(default_factory=SourceHealth)
    rows_written: int = 0
    lost_on_disk: int = 0
    events_lost: int = 0

    def take(self, health: SourceHealth) -> int:
        """Add what the source says; the events that it lost since it was last asked."""
        add(self.interval, health)
        self.events_lost += health.events_lost
        return health.events_lost


class HealthLog:
    """Collects health rows; they stay in memory until they could be written.

    `effort` is what is in force. Times are microseconds since 1970.
    """

    def __init__(self, host: str, sources: Sequence[str], now_us: int) -> None:
        self._host = host
        self.effort = Effort()
        self._usage = Usage.now()
        self._begun_us = now_us
        self._rows: list[dict[str, Any]] = []
        self.sources = {name: SourceRecord(name) for name in sources}

    def begin(self, now_us: int) -> None:
        """The first interval begins now; what starting cost counts to it."""
        self._begun_us = now_us

    def interval(self, now_us: int) -> None:
        """One row per source for the time since the last one; the recorder's own use is on the first source's."""
        usage = Usage.now()
        for number, record in enumerate(self.sources.values()):
            health = record.interval
            row = {item.name: getattr(health, item.name) for item in fields(SourceHealth) if item.name != "notes"}
            row |= {
                "kind": "interval",
                "events_lost": health.events_lost,
                "lost_on_disk": 0,  # a gap's row says it
                "rows_written": record.rows_written,
                "sampling_interval": self.effort.sampling,
                "active_timeout_us": int(self.effort.active_timeout * 1e6),
            }
            if number == 0:
                row["recorder_cpu_us"] = max(0, usage.cpu_us - self._usage.cpu_us)
                row["recorder_memory_bytes"] = usage.memory_bytes
            if health.events_lost or health.notes:
                row["reason"] = "; ".join(
                    [*([_loss(health, record.losses)] if health.events_lost else []), *health.notes]
                )
            self._add(row, record.name, self._begun_us, now_us)
            record.interval, record.rows_written = SourceHealth(), 0
        self._usage, self._begun_us = usage, now_us

    def gap(self, begun_us: int, now_us: int, reason: str) -> None:
        """One row per source: between these times nothing was written, and why."""
        for record in self.sources.values():
            row = {
                "kind": "gap",
                "reason": reason,
                "events_lost": record.lost_on_disk,
                "lost_on_disk": record.lost_on_disk,
            }
            self._add(row, record.name, begun_us, now_us)
            record.lost_on_disk = 0

    def note(self, kind: str, reason: str, now_us: int) -> None:
        """A row about a moment: clock_step, degraded, restored."""
        for name in self.sources:
            self._add({"kind": kind, "reason": reason}, name, now_us, now_us)

    def batch(self) -> pa.RecordBatch | None:
        """What is waiting to be written; None when nothing is."""
        if not self._rows:
            return None
        known = {}
        for item in tables.HEALTH.fields:
            values = [row.get(item.name) for row in self._rows]
            if any(value is not None for value in values):
                known[item.name] = _column(item.type, values)
        return tables.batch(tables.HEALTH, known, len(self._rows))

    def written(self) -> None:
        """The rows of the last `batch` are safe."""
        self._rows.clear()

    def _add(self, row: dict[str, Any], source: str, begun_us: int, now_us: int) -> None:
        row |= {"start_time": begun_us, "end_time": max(begun_us, now_us), "source": source, "host": self._host}
        self._rows.append(row)


_LOSSES = {
    "lost_in_ring": "the ring buffer was full",
    "lost_in_map": "the map of flows was full",
    "lost_in_kernel": "the kernel skipped the program",
}


def _loss(health: SourceHealth, losses: Mapping[str, str]) -> str:
    places = {text: getattr(health, name) for name, text in (_LOSSES | dict(losses)).items()}
    return "lost because " + ", ".join(f"{place} ({count})" for place, count in places.items() if count)


def _column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    null = np.array([value is None for value in values])
    if pa.types.is_dictionary(kind):
        return columns.text(np.arange(len(values)), [value or "" for value in values], null)
    numbers = np.array([value or 0 for value in values], np.int64)
    return columns.times(numbers, null) if pa.types.is_timestamp(kind) else columns.numbers(numbers, null, kind)
