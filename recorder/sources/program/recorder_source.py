"""The source `program`: attaches users' programs, drains their rings, runs their iterators, makes rows."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from netrec.errors import CannotRecordError
from recorder import cgroups
from recorder.bpf import compiler, syscalls
from recorder.bpf.btf import Btf
from recorder.bpf.clock import UtcClock
from recorder.bpf.compiler import Build, BuildError, Loaded
from recorder.bpf.namespaces import each_namespace
from recorder.bpf.ring import RingBuffer
from recorder.bpf.run_times import KernelTimes, RunTimes
from recorder.bpf.tracepoints import attach_tracepoint, number_of
from recorder.clock import boot_ns
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.program import translation
from recorder.sources.program.complaints import explain
from recorder.sources.program.hooks import Attachment
from recorder.sources.program.program_file import Program, ring_pages
from recorder.sources.program.rows import RowMaker


class Running:
    """One program while it runs."""

    def __init__(self, program: Program, build: Build, host: str, ring_bytes: int) -> None:
        self._program, self._build, self._host = program, build, host
        self.ring_size = ring_pages(ring_bytes) * 4096
        self.table, self.definition = program.annotation.table.name, program.definition
        self._loaded: Loaded | None = None
        self._links: list[int] = []
        self._iterators: list[tuple[Attachment, int]] = []
        self._ring: RingBuffer | None = None
        self._chunks: list[np.ndarray] = []
        self._counted = np.zeros(2, np.int64)
        self._misses = 0

    def load(self) -> None:
        """Take over what was compiled; raises `ProgramError` that points into the program's text."""
        try:
            self._loaded = self._build.finish()
        except BuildError as problem:
            raise explain(problem, self._program.source) from None
        annotation = self._program.annotation
        check_enumerations(self._program, self._loaded)
        self._ring = RingBuffer(self._loaded.maps[translation.RING], self.ring_size, annotation.record)
        self._counts = syscalls.PerCpuArray(self._loaded.maps[translation.COUNTS], 2)
        self._rows = RowMaker(annotation, self._host, self._loaded.enumerations)

    def attach(self) -> None:
        """Attach every function; raises `CannotRecordError`."""
        assert self._loaded is not None
        for one in self._program.attachments:
            function = self._loaded.functions[one.program]
            if one.kind == compiler.ITERATOR:
                self._iterators.append((one, syscalls.link_iterator(function)))
            else:
                self._links.append(_attached(one, function))

    def poll(self) -> bool:
        """Empty the ring; True when it was more than a quarter full."""
        if self._ring is None:
            return False
        chunk = self._ring.drain()
        if len(chunk):
            self._chunks.append(chunk)
        return len(chunk) * chunk.itemsize * 4 > self.ring_size

    @property
    def each_namespace(self) -> bool:
        """Whether it has an iterator that shows one network namespace at a time."""
        return any(one.each_namespace for one, _ in self._iterators)

    def run_time_ns(self) -> int:
        """How long it has run in others' context while the kernel timed it; iterators run in ours."""
        assert self._loaded is not None
        others = [one.program for one in self._program.attachments if one.kind != compiler.ITERATOR]
        return sum(syscalls.run_time_ns(self._loaded.functions[name]) for name in others)

    def iterate(self) -> None:
        """Run the iterators once; what they wrote becomes rows as what comes out of the ring does."""
        for one, link in self._iterators:
            if one.each_namespace:
                for _ in each_namespace():
                    self._take(syscalls.read_iterator(link))
            else:
                self._take(syscalls.read_iterator(link))

    def rows(self, offset_ns: int) -> Iterator[tuple[str, Any]]:
        """What came since the last call, as one batch."""
        self.poll()
        if self._chunks:
            records = np.concatenate(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
            self._chunks = []
            yield self.table, self._rows.rows(records, offset_ns, boot_ns())

    def add_health(self, health: SourceHealth) -> None:
        """Add what was counted since the last call."""
        if self._loaded is None or self._ring is None:
            return
        counted = self._counts.read().astype(np.int64)
        misses = sum(syscalls.recursion_misses(function) for function in self._loaded.functions.values())
        health.events_seen += int(counted[translation.COUNT_SEEN] - self._counted[translation.COUNT_SEEN])
        health.lost_in_ring += int(counted[translation.COUNT_LOST] - self._counted[translation.COUNT_LOST])
        health.lost_in_kernel += misses - self._misses
        health.ring_used = max(health.ring_used or 0, self._ring.peak)
        health.ring_limit = max(health.ring_limit or 0, self.ring_size)
        self._counted, self._misses, self._ring.peak = counted, misses, 0

    def detach(self) -> None:
        """No row comes any more."""
        for link in self._links:
            with contextlib.suppress(OSError):
                os.close(link)
        self._links = []

    def close(self) -> None:
        """Let go of everything in the kernel; safe at any time and more than once."""
        self._build.cancel()
        self.detach()
        for _, link in self._iterators:
            os.close(link)
        self._iterators = []
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None

    def _take(self, data: bytes) -> None:
        record = self._program.annotation.record
        if len(data) >= record.itemsize:
            self._chunks.append(np.frombuffer(data[: len(data) // record.itemsize * record.itemsize], record))


class ProgramSource:
    """All programs of one recording: the life cycle of `recorder.source.Source`."""

    def __init__(self, context: CaptureContext, programs: Sequence[tuple[Program, Build]]) -> None:
        settings = context.settings
        ring = int(settings.get("ring_size", 8 << 20))
        self._running = [Running(program, build, context.host, ring) for program, build in programs]
        self._interval_ns = int(settings.get("active_timeout", 10.0) * 1e9)
        self._clock = UtcClock()
        self._last_health = SourceHealth()
        self._next_round = 0
        self._budget = bool(settings.get("max_cpu"))
        self._run_times: RunTimes | None = None
        self._notes: tuple[str, ...] = ()

    def definitions(self) -> dict[str, Any]:
        """The tables of the programs, as `netrec.trace.definition` describes them."""
        return {one.table: one.definition for one in self._running}

    def capabilities(self) -> set[str]:
        """Maps; iterators that have to be read in every network namespace; the kernel's statistics for a budget."""
        namespaces = any(one.each_namespace for one in self._running)
        needed = {"bpf", "sys_admin", "sys_ptrace"} if namespaces else {"bpf"}
        return needed | {"sys_admin"} if self._run_times else needed

    def start(self) -> None:
        """Load every program, and attach them only when all could be loaded. Raises `CannotRecordError`."""
        for one in self._running:
            one.load()
        for one in self._running:
            one.attach()
        if self._budget:
            self._time()
        self._schedule()

    def poll(self) -> bool:
        if self._run_times:
            self._run_times.step()
        full = [one.poll() for one in self._running]
        return any(full)

    def read(self) -> Iterator[tuple[str, Any]]:
        """Rows that came since the last call; once per active timeout those of iterators too."""
        if boot_ns() >= self._next_round:
            self._schedule()
            for one in self._running:
                one.iterate()
        yield from self._rows()

    def health(self) -> SourceHealth:
        """Counters since the last call; after `stop`, what came until then."""
        found, self._last_health = self._last_health, SourceHealth()
        for one in self._running:
            one.add_health(found)
        if self._run_times:
            found.programs_cpu_us = self._run_times.take()
        found.notes, self._notes = self._notes, ()
        return found

    def stop(self) -> Iterator[tuple[str, Any]]:
        """Detach; the last rows, those of a last round of the iterators among them."""
        if self._run_times:
            self._run_times.stop()
        for one in self._running:
            one.detach()
            one.iterate()
        yield from self._rows()
        self._last_health = self.health()
        self.close()

    def close(self) -> None:
        times, self._run_times = self._run_times, None
        if times:
            with contextlib.suppress(OSError):
                times.stop()
        for one in self._running:
            one.close()

    def _time(self) -> None:
        """Count the programs' time in the budget, where the kernel times programs for this process."""
        try:
            os.close(syscalls.keep_run_times())
        except OSError as problem:
            self._notes = (
                f"time of --program in the kernel is not counted in --max-cpu ({problem.strerror}: "
                "it needs CAP_SYS_ADMIN and Linux 5.8)",
            )
            return
        times = KernelTimes(lambda: sum(one.run_time_ns() for one in self._running))
        self._run_times = RunTimes(times.switch, times.read)

    def _rows(self) -> Iterator[tuple[str, Any]]:
        offset = self._clock.offset_ns()
        for one in self._running:
            yield from one.rows(offset)

    def _schedule(self) -> None:
        """The next multiple of the active timeout by the wall clock, as the other sources do."""
        now, offset = boot_ns(), self._clock.offset_ns()
        self._next_round = math.floor((now + offset) / self._interval_ns + 1) * self._interval_ns - offset


def check_enumerations(program: Program, loaded: Loaded) -> None:
    """Raise `ProgramError` when the program names an enum that this kernel does not have."""
    for name, members in loaded.enumerations.items():
        if not members:
            position = program.source.text.find(f"@enum {name}")
            raise program.source.error(
                position, f"this kernel has no enum {name}", "name an enum of the kernel, or one of its enumerators"
            )


def check_hooks(program: Program) -> None:
    """Raise `ProgramError` when this kernel does not have a tracepoint that the program hooks in at."""
    btf = Btf()
    for hook, one in zip(program.annotation.hooks, program.attachments, strict=True):
        try:
            if one.kind == compiler.TRACEPOINT:
                number_of(one.target)
            elif one.kind == compiler.RAW_TRACEPOINT and not btf.arguments(one.target):
                raise CannotRecordError(f"this kernel has no tracepoint {one.target}", "see /sys/kernel/tracing/events")
        except CannotRecordError as problem:
            raise program.source.error(hook.position, problem.message, problem.hint) from None


def _attached(one: Attachment, function: int) -> int:
    if one.kind == compiler.RAW_TRACEPOINT:
        return syscalls.attach_raw_tracepoint(function, one.target)
    if one.kind == compiler.TRACEPOINT:
        return attach_tracepoint(function, one.target)
    return _attached_to_root_cgroup(function, compiler.attach_type(one.kind))


def _attached_to_root_cgroup(function: int, attach_type: int) -> int:
    mount = os.open(cgroups.mount_point(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return syscalls.attach_cgroup(function, mount, attach_type)
    finally:
        os.close(mount)
