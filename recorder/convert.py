"""Spool -> finished Parquet file, at once or in the background beside the recording."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from netrec.errors import NetrecError, TraceError
from netrec.trace import definition, layout, metadata
from netrec.trace.writer import FileWriter, Finished, hour_of, time_of
from recorder import spool
from recorder.rotate import ClosedSpool

# The thread that converts gives way to everything else on the host, the recording included.
BACKGROUND_NICENESS = 10


@dataclass(frozen=True)
class Converted:
    """What became of a spool: the file (None: it held no row), and what a torn tail cost."""

    file: Finished | None
    torn_bytes: int
    spool_bytes: int
    existed: bool = False


def convert(trace: Path, closed: ClosedSpool, pause: Callable[[], None] = lambda: None) -> Converted:
    """Turn one spool into its Parquet file and remove it.

    A file that is already there for the same table, capture and sequence is kept when it is whole: the
    recorder died between giving it its name and removing the spool. `pause` is called after every batch. Raises
    `OSError` when there is no room (the
    spool stays) and `TraceError` when the spool is not one.
    """
    size = closed.file.path.stat().st_size
    contents = spool.read(closed.file)
    if contents is None:
        closed.file.path.unlink()
        return Converted(None, size, size)
    target = layout.TraceFile(
        closed.file.table,
        hour_of(time_of(contents.opened)),
        contents.capture.host,
        contents.capture.capture,
        closed.file.sequence,
    )
    present = _whole(trace / target.relative)
    if present:
        closed.file.path.unlink()
        return Converted(present, 0, size, existed=True)
    table = definition.table_of(closed.file.table, contents.capture.definitions)
    writer = FileWriter(trace, target, closed.file.folder, table=table)
    try:
        for batch in contents.batches():
            writer.write(batch)
            pause()
        if not writer.rows:
            writer.discard()
            finished = None
        else:
            finished = writer.finish(
                metadata.FileMetadata(
                    contents.capture,
                    closed.file.table,
                    closed.file.sequence,
                    writer.rows,
                    max(contents.events_lost, closed.events_lost),
                    contents.opened,
                    closed.closed,
                    closed.closed_time,
                )
            )
    except BaseException:
        writer.discard()
        raise
    closed.file.path.unlink()
    return Converted(finished, contents.torn_bytes, size)


def _whole(path: Path) -> Finished | None:
    """The finished file at `path` if its footer and row count say that it is whole."""
    try:
        footer = pq.read_metadata(path)
        described = metadata.decode_file(footer.metadata)
    except (OSError, pa.ArrowException, TraceError):
        return None
    return Finished(path, footer.num_rows, path.stat().st_size) if described.rows == footer.num_rows else None


class Converter:
    """Converts closed spools one after the other in a thread of low priority, which takes at most half of the share
    `cpu` of a core (None: as much as it needs) until `hurry`.

    Spools that could not be converted (no room) wait until `retry`. Results come out of `results`, problems
    out of `problems`; both are for the recording thread.
    """

    def __init__(self, trace: Path, cpu: float | None = None) -> None:
        self._trace = trace
        self._share = cpu / 2 if cpu else None
        self._hurried = threading.Event()
        self._cpu_seconds = 0.0
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._failed: list[ClosedSpool] = []
        self._lock = threading.Lock()
        self.results: queue.SimpleQueue[Converted] = queue.SimpleQueue()
        self.problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="netrec-convert", daemon=True)

    def start(self) -> None:
        """Begin with what was handed over until now: a thread keeps the capabilities that its maker had."""
        if self._thread.ident is None:
            self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether anything is being converted or waits for it."""
        return self._waiting > 0

    @property
    def pending_bytes(self) -> int:
        """Bytes in spools that are not yet converted, failed ones included."""
        return self._waiting_bytes + sum(closed.bytes for closed in self._failed)

    @property
    def failed(self) -> int:
        """Spools that could not be converted for want of room."""
        return len(self._failed)

    def convert(self, closed: ClosedSpool) -> None:
        """Convert a spool when its turn comes."""
        self._count(1, closed.bytes)
        self._jobs.put(lambda: self._convert(closed))

    def call(self, job: Callable[[], None]) -> None:
        """Run something else in the thread, in turn; what it raises becomes a problem."""
        self._count(1, 0)
        self._jobs.put(lambda: self._call(job))

    def hurry(self) -> None:
        """The recording is over: convert what is left as fast as it goes."""
        self._hurried.set()

    def _pause(self) -> None:
        if self._share is not None and not self._hurried.is_set():
            used = time.thread_time() - self._cpu_seconds
            self._hurried.wait(used / self._share - used)
            self._cpu_seconds = time.thread_time()

    def retry(self) -> None:
        """Try the failed ones again."""
        with self._lock:
            again, self._failed = self._failed, []
        for closed in again:
            self.convert(closed)

    def finish(self) -> None:
        """Wait until everything is converted, and end the thread."""
        if self._thread.ident is None:
            return  # nothing was recorded
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        # A recorder that gives way more than that already (nice, Nice= of a unit) has no right to take it back.
        niceness = max(BACKGROUND_NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
        while (job := self._jobs.get()) is not None:
            job()

    def _convert(self, closed: ClosedSpool) -> None:
        try:
            self._cpu_seconds = time.thread_time()
            self.results.put(convert(self._trace, closed, self._pause))
        except FileNotFoundError as problem:
            self.problems.put(f"{closed.file.path} was removed by someone else while it was being recorded ({problem})")
        except (OSError, NetrecError, pa.ArrowException) as problem:
            with self._lock:
                self._failed.append(closed)
            self.problems.put(f"{closed.file.path.name} is not yet Parquet ({problem})")
        finally:
            self._count(-1, -closed.bytes)
            pa.default_memory_pool().release_unused()

    def _call(self, job: Callable[[], None]) -> None:
        try:
            job()
        except (OSError, NetrecError, pa.ArrowException) as problem:
            self.problems.put(str(problem))
        finally:
            self._count(-1, 0)

    def _count(self, jobs: int, size: int) -> None:
        with self._lock:
            self._waiting += jobs
            self._waiting_bytes += size
