"""The recording loop: sources are polled when they ask for it, written once a second, rotated by the wall clock.

    source.poll -> source.read (1 s) -> spool -> [rotation] -> Parquet, converted beside the recording

The loop runs in the caller's thread and never waits for the disk to make room: when it is full, rows are
counted and dropped, and the gap is written to `health` as soon as there is room again.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import pyarrow as pa

from netrec.errors import CannotRecordError, NetrecError
from netrec.filter import Filter
from netrec.trace import metadata
from recorder import health, naming, relayed, repair, sampling
from recorder.budget import Budget, Keeper, Spent, describe
from recorder.clock import WallClock
from recorder.convert import Converter
from recorder.disk import DiskGuard
from recorder.retention import MinimumFree, Retention
from recorder.rotate import OpenSpools, next_rotation
from recorder.row_filter import RowFilter
from recorder.source import Effort, Source
from recorder.spool import SpoolFolder
from recorder.waiting import Waiter

HEALTH_SECONDS = 10.0
# So many rows are written before the next are asked for: what waits takes memory.
MANY_ROWS = 16_384


@dataclass(frozen=True)
class Plan:
    """What to record: the sources by name, created but not started, and what is to be done with their rows.

    `duration` and `rotate_interval` in seconds, `rotate_size` in bytes of a finished file; `effort` is what the sources
    are to do, less of it when that takes more than the `budget`. `started` is called when every source has
    started, before any thread of the recorder is.
    """

    trace: Path
    sources: Mapping[str, Source]
    capture: metadata.CaptureMetadata
    duration: float | None = None
    rotate_interval: float = 300.0
    rotate_size: int = 256_000_000
    effort: Effort = field(default_factory=Effort)
    budget: Budget = field(default_factory=Budget)
    filter: Filter | None = None
    retention: Retention = field(default_factory=Retention)
    minimum_free: MinimumFree = field(default_factory=MinimumFree)
    started: Callable[[], None] = lambda: None


@dataclass
class Status:
    """Where the recording is, for whoever watches it. Totals since its start; times in seconds."""

    elapsed: float = 0.0
    duration: float | None = None
    rows: int = 0
    tables: dict[str, int] = field(default_factory=dict)
    rows_per_second: float = 0.0
    files: int = 0
    bytes: int = 0
    spool_bytes: int = 0
    lost: int = 0
    paused: str = ""
    sampling: int = 1
    degraded: str = ""
    _rows_told: int = 0

    def tell(self, elapsed: float) -> None:
        """Take the time; the rate is that since the last call."""
        seconds, rows = elapsed - self.elapsed, self.rows - self._rows_told
        self.rows_per_second = rows / seconds if seconds > 0 else 0.0
        self.elapsed, self._rows_told = elapsed, self.rows


class Watcher:
    """Told once a second how the recording is going, and in a sentence what is out of the ordinary."""

    def status(self, status: Status) -> None: ...

    def say(self, sentence: str) -> None: ...


class Pipeline:
    """One capture, from the start of its sources to the last file."""

    def __init__(self, plan: Plan, watcher: Watcher, clock: WallClock | None = None) -> None:
        self._plan = plan
        self._clock = clock or WallClock()
        self._watcher = watcher
        self._sources: dict[str, Source] = {}
        self._effort = plan.effort
        self._keeper = Keeper(plan.budget, plan.effort) if plan.budget else None
        self._programs_cpu_us = 0
        self._filter = RowFilter(plan.filter)
        self._status = Status(duration=plan.duration)
        self._stop_asked = False
        self._rotate_asked = False
        self._lost_before_interval = 0
        self._said: set[str] = set()

    def run(self) -> Status:
        """Record until the duration is over or SIGINT or SIGTERM arrives; the final totals.

        Raises `CannotRecordError` when a source cannot start, and `NetrecError` when one fails on the way,
        after all that came before is safe.
        """
        plan = self._plan
        with ExitStack() as stack:
            self._waiter = Waiter()
            stack.callback(self._waiter.close)
            self._handle_signals(stack)
            folder = SpoolFolder.create(plan.trace, plan.capture.host, plan.capture.capture)
            stack.callback(folder.close)
            folder.reserve()
            self._converter = Converter(plan.trace, plan.budget.cpu)
            stack.callback(self._converter.finish)
            self._converter.call(self._repair_others)
            now = self._clock.now()
            self._spools = OpenSpools(folder, plan.capture, now)
            self._disk = DiskGuard(plan.trace, plan.minimum_free, plan.rotate_size)
            self._folder = folder
            self._health = health.HealthLog(plan.capture.host, list(plan.sources), int(now * 1e6))
            for name, source in plan.sources.items():
                self._health.sources[name].losses.update(getattr(source, "losses", {}))
            self._adjust(plan.effort)
            failure: BaseException | None = None
            try:
                for name, source in plan.sources.items():
                    stack.callback(source.close)
                    with self._blame(name):
                        source.start()
                        self._waiter.watch(source.wakes() if hasattr(source, "wakes") else ())
                    self._sources[name] = source
                plan.started()
                self._converter.start()
                self._mark_start()
                self._loop()
            except Exception as problem:
                failure = problem
                self._converter.start()
            self._end(failure)
            if failure:
                raise self._explained(failure) from failure
        self._collect()
        return self._status

    def _adjust(self, effort: Effort) -> None:
        """Tell every source how much is to be done from now on."""
        self._effort = self._health.effort = effort
        self._status.sampling, self._status.degraded = effort.sampling, describe(effort, self._plan.effort)
        for name, source in self._plan.sources.items():
            if hasattr(source, "adjust"):
                with self._blame(name):
                    source.adjust(effort)

    def _sampled(self, name: str, table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """A source's batch as it is to be written: sampled here when the source cannot."""
        if table != "flows" or hasattr(self._plan.sources[name], "adjust"):
            return batch
        return sampling.thin(batch, self._effort.sampling)

    def _mark_start(self) -> None:
        """What came before is no recorded time, or that of another clock: files and health begin here."""
        now = self._clock.now()
        self._spools.begin(now)
        self._health.begin(int(now * 1e6))

    def _loop(self) -> None:
        begun = time.monotonic()
        ends = begun + (math.inf if self._plan.duration is None else self._plan.duration)
        next_flush = begun + self._effort.read_seconds
        next_health = begun + HEALTH_SECONDS
        boundary = next_rotation(self._clock.now(), self._plan.rotate_interval)
        self._watcher.status(self._status)  # every source runs: whoever waits for that may go on
        while not self._stop_asked:
            again = False
            for name, source in self._sources.items():
                with self._blame(name):
                    again = source.poll() or again
            now, wall = time.monotonic(), self._clock.now()
            over = now >= ends
            # Asked before the sources are read: what happened until then is in the files. Else it is the next turn's.
            asked, self._rotate_asked = self._rotate_asked, False
            if now >= next_flush or wall >= boundary or asked or over:
                if moved := self._clock.step():
                    self._clock_was_set(wall, moved)
                    boundary = next_rotation(wall, self._plan.rotate_interval)
                if now >= next_health:
                    self._health.interval(int(wall * 1e6))
                    next_health = now + HEALTH_SECONDS
                self._flush()
                self._status.tell(now - begun)
                self._rotate_if_due(asked, wall >= boundary)
                if wall >= boundary:
                    boundary = next_rotation(wall, self._plan.rotate_interval)
                self._watcher.status(self._status)
                if self._keeper:
                    self._keep_within_budget(self._keeper)
                next_flush = max(next_flush + self._effort.read_seconds, now)
            if over:
                return
            if not again:
                self._wait(min(next_flush, ends), boundary)

    def _wait(self, until: float, boundary: float) -> None:
        """Until then (monotonic), the boundary (wall clock), or a source that wants to be polled."""
        longest = min(until - time.monotonic(), boundary - self._clock.now())
        self._waiter.wait(min([longest, *(self._patience(source) for source in self._sources.values())]))

    def _patience(self, source: Source) -> float:
        """Seconds until a source must be polled again."""
        own = source.patience() if hasattr(source, "patience") else None
        return self._effort.poll_seconds if own is None else own

    def _clock_was_set(self, wall: float, moved: float) -> None:
        """What was written by the old clock stays among itself: its files end here, and its interval."""
        self._health.interval(int((wall - moved) * 1e6))
        if not self._status.paused:
            self._write_health()
        self._rotate("clock_step", wall - moved)
        self._mark_start()
        self._health.note("clock_step", f"the wall clock moved by {moved:+.3f} s", int(wall * 1e6))

    def _keep_within_budget(self, keeper: Keeper) -> None:
        usage = health.Usage.now()
        cpu = (usage.cpu_us + self._programs_cpu_us) / 1e6
        decision = keeper.judge(Spent(time.monotonic(), cpu, usage.memory_bytes, health.written_bytes()))
        if decision is None:
            return
        now_us = int(self._clock.now() * 1e6)
        # Until now the old effort was in force: its interval ends here.
        self._health.interval(now_us)
        self._health.note(decision.kind, decision.reason, now_us)
        self._watcher.say(f"{decision.kind}: {decision.reason}")
        self._adjust(decision.effort)

    def _flush(self) -> None:
        """Read every source and append what came to the spools."""
        self._append(self._read())

    def _append(self, rows: Iterable[tuple[str, str, pa.RecordBatch]]) -> None:
        """Write rows as (source, table, rows), many at a time; when giving them fails, those that came before."""
        found: dict[str, list[tuple[str, pa.RecordBatch]]] = {}
        waiting = 0
        try:
            for name, table, batch in rows:
                found.setdefault(table, []).append((name, batch))
                waiting += batch.num_rows
                if waiting >= MANY_ROWS:
                    many, found, waiting = found, {}, 0
                    self._write(many)
        finally:
            self._write(found)

    def _read(self) -> Iterator[tuple[str, str, pa.RecordBatch]]:
        """What every source has recorded, as (source, table, rows), and after it what it says of itself."""
        for name, source in self._sources.items():
            with self._blame(name):
                for table, batch in source.read():
                    yield name, table, self._sampled(name, table, batch)
                said = source.health()
            self._programs_cpu_us += said.programs_cpu_us or 0
            self._status.lost += self._health.sources[name].take(said)
            for note in said.notes:
                self._watcher.say(f"{name}: {note}")

    def _write(self, found: dict[str, list[tuple[str, pa.RecordBatch]]]) -> None:
        wall_us = int(self._clock.now() * 1e6)
        found = {
            table: [(name, self._filter.keep(table, batch)) for name, batch in batches]
            for table, batches in found.items()
        }
        if "flows" in found:
            found["flows"] = naming.fill(relayed.mark(found["flows"], self._sources), self._sources)
        free = self._disk.check(self._spools, self._converter, wall_us)
        rows = 0
        for table, batches in found.items():
            parts = [batch for _, batch in batches]
            if free:
                try:
                    written = self._spools.append(table, parts, self._lost_in_interval)
                    rows += written if table == "flows" else 0
                    self._status.tables[table] = self._status.tables.get(table, 0) + written
                    for name, batch in batches:
                        self._health.sources[name].rows_written += batch.num_rows
                    continue
                except OSError as problem:
                    self._disk.failed(problem, wall_us)
                    free = False
            for name, batch in batches:
                self._health.sources[name].lost_on_disk += batch.num_rows
                self._status.lost += batch.num_rows
        self._status.rows += rows
        if free:
            gap = self._disk.take_gap()
            if gap:
                self._health.gap(gap.begun_us, wall_us, gap.reason)
                self._watcher.say(f"recording again after {(wall_us - gap.begun_us) / 1e6:.0f} s: {gap.reason}")
            self._write_health()
        elif self._disk.just_paused():
            self._watcher.say(f"not recording: {self._disk.reason}")
            self._rotate("disk_full")
        self._status.paused = "" if free else self._disk.reason

    def _write_health(self) -> bool:
        batch = self._health.batch()
        if batch is None:
            return True
        try:
            self._spools.append("health", [batch], self._lost_in_interval)
        except OSError:
            return False
        self._health.written()
        return True

    def _rotate_if_due(self, asked: bool, boundary: bool) -> None:
        if asked:
            self._rotate("hangup")
        elif boundary:
            self._rotate("interval")
        elif self._disk.should_rotate(self._spools, self._converter):
            self._rotate("size")
        self._collect()

    def _rotate(self, closed: str, wall: float | None = None) -> None:
        now = self._clock.now() if wall is None else wall
        for spool in self._spools.rotate(closed, now, self._lost_in_interval):
            self._converter.convert(spool)
        self._lost_before_interval = self._status.lost
        if self._plan.retention != Retention():
            self._converter.call(self._retain)

    def _collect(self) -> None:
        """Take in what the converter has done since."""
        while not self._converter.results.empty():
            done = self._converter.results.get()
            self._disk.learn(done)
            if done.file:
                self._status.files += 1
                self._status.bytes += done.file.bytes
        while not self._converter.problems.empty():
            problem = self._converter.problems.get()
            if problem not in self._said:  # a full disk gives the same one at every try
                self._said.add(problem)
                self._watcher.say(problem)
        self._status.spool_bytes = self._spools.bytes + self._converter.pending_bytes

    def _end(self, failure: BaseException | None) -> None:
        """Stop the sources, write their last rows and the last health row, and turn everything into Parquet."""
        if not self._sources:
            return
        self._append(self._last(failure))
        now_us = int(self._clock.now() * 1e6)
        if failure is not None:
            self._health.note("degraded", f"recording ended: {self._explained(failure).message}", now_us)
        self._health.interval(now_us)
        gap = self._disk.take_gap()
        if gap:
            self._health.gap(gap.begun_us, now_us, gap.reason)
        # The reserve makes room for the last words, whatever else filled the disk.
        if not self._write_health():
            self._folder.release_reserve()
            self._write_health()
        self._rotate("end")
        self._converter.call(lambda: None)
        self._drain()
        if self._converter.failed:
            self._folder.release_reserve()
            self._converter.retry()
            self._drain()
        if self._converter.failed:
            self._watcher.say(
                f"no room for the last files: free some, then `netrec repair {self._plan.trace}` finishes them"
            )
        self._collect()

    def _last(self, failure: BaseException | None) -> Iterator[tuple[str, str, pa.RecordBatch]]:
        """Stop every source; their last rows, as `_read` gives them."""
        for name, source in reversed(list(self._sources.items())):
            try:
                if failure is not None and getattr(failure, "source", None) == name:
                    source.close()
                    continue
                for table, batch in source.stop():
                    yield name, table, self._sampled(name, table, batch)
                self._status.lost += self._health.sources[name].take(source.health())
            except Exception as problem:
                source.close()
                self._watcher.say(f"source {name} did not stop in order ({type(problem).__name__}: {problem})")

    def _drain(self) -> None:
        self._converter.hurry()
        while self._converter.busy:
            time.sleep(0.01)

    def _repair_others(self) -> None:
        for outcome in repair.repair_trace(self._plan.trace):
            if outcome.kind != "live":
                self._converter.problems.put(outcome.sentence)

    def _retain(self) -> None:
        now = datetime.fromtimestamp(self._clock.for_age(), UTC)
        self._plan.retention.apply(self._plan.trace, self._plan.capture.host, now)

    @property
    def _lost_in_interval(self) -> int:
        return self._status.lost - self._lost_before_interval

    def _handle_signals(self, stack: ExitStack) -> None:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stop_asked = True
            self._waiter.call()

        def rotate(number: int, frame: FrameType | None) -> None:
            self._rotate_asked = True
            self._waiter.call()

        for number, handler in ((signal.SIGINT, stop), (signal.SIGTERM, stop), (signal.SIGHUP, rotate)):
            previous = signal.signal(number, handler)
            stack.callback(signal.signal, number, previous)

    def _blame(self, name: str) -> _Blame:
        return _Blame(name)

    def _explained(self, failure: BaseException) -> NetrecError:
        if isinstance(failure, NetrecError):
            return failure
        name = getattr(failure, "source", "")
        which = f"source {name}" if name else "a source"
        saved = f"what was recorded until then is in {self._plan.trace}; " if self._sources else ""
        return CannotRecordError(
            f"{which} failed ({type(failure).__name__}: {failure})", f"{saved}run again with --debug for the traceback"
        )


class _Blame:
    """Notes on an exception which source it came from."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if problem is not None:
            problem.source = self._name  # type: ignore[attr-defined]
