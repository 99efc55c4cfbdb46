"""Long histories: a finished trace of flows that never were, without recording for days."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

import netrec
from netrec.trace import layout, metadata, tables
from netrec.trace.writer import FileWriter, Finished, hour_of
from recorder.sources.synthetic.flows import EPOCH, flow_batches
from recorder.spool import SpoolFolder

# Long histories are read more often than the recorder's own files, and nobody waits for memory here.
ROWS_PER_GROUP = 122_880


def write_history(
    trace: Path | str,
    count: int,
    *,
    start: datetime,
    duration: float,
    seed: int = 1,
    host: str = "synthetic",
    **shape: Any,
) -> list[Finished]:
    """`count` flows over `duration` seconds as a finished trace in the folder `trace`, one file per UTC hour.

    `shape` goes to `flow_batches`: daily_swing, growth_per_day, long_lived, clients. Beside the flows the trace
    gets the health rows of a recorder that lost nothing. Returns the files.
    """
    batches = flow_batches(count, seed=seed, start=start, duration=duration, host=host, **shape)
    return write_batches(Path(trace), batches, start=start, duration=duration, host=host)


def write_batches(
    trace: Path, batches: Iterable[pa.RecordBatch], *, start: datetime, duration: float, host: str
) -> list[Finished]:
    """Batches of `flows`, in order of time, as a finished trace."""
    capture = metadata.CaptureMetadata(
        host=host,
        capture=layout.new_capture_id(start),
        source="synthetic",
        capture_start=start.isoformat(),
        command_line="recorder.sources.synthetic.history",
        netrec_version=netrec.__version__,
    )
    folder = SpoolFolder.create(trace, host, capture.capture)
    finished: list[Finished] = []
    writer: FileWriter | None = None
    try:
        for batch in batches:
            for hour, part in _by_hour(batch):
                if writer is None or writer.file.hour != hour:
                    if writer:
                        finished.append(_finish(writer, capture, "interval"))
                    writer = FileWriter(
                        trace,
                        layout.TraceFile("flows", hour, host, capture.capture, len(finished)),
                        folder.path,
                        ROWS_PER_GROUP,
                    )
                writer.write(part)
        if writer:
            finished.append(_finish(writer, capture, "end"))
        finished += _health(trace, folder.path, capture, start, duration, sum(file.rows for file in finished))
    finally:
        folder.close()
    return finished


def _finish(writer: FileWriter, capture: metadata.CaptureMetadata, closed: str) -> Finished:
    file = writer.file
    closed_time = datetime.fromtimestamp(file.hour.timestamp() + 3600, UTC).isoformat()
    return writer.finish(
        metadata.FileMetadata(
            capture, file.table, file.sequence, writer.rows, 0, file.hour.isoformat(), closed, closed_time
        )
    )


def _by_hour(batch: pa.RecordBatch) -> Iterable[tuple[datetime, pa.RecordBatch]]:
    """The batch in parts of one UTC hour each, by end_time; rows in order of time give one part per hour."""
    hours = batch.column("end_time").view(pa.int64()).to_numpy() // 3_600_000_000
    edges = [0, *(hours[1:] != hours[:-1]).nonzero()[0] + 1, len(hours)]
    for first, last in pairwise(edges):
        if last > first:
            yield (
                datetime.fromtimestamp(int(hours[first]) * 3600, UTC),
                batch.slice(int(first), int(last - first)),
            )


def _health(
    trace: Path, scratch: Path, capture: metadata.CaptureMetadata, start: datetime, duration: float, rows: int
) -> list[Finished]:
    """One regular health row per ten minutes, one file per hour, as after a capture without loss."""
    step = 600_000_000
    first = int((start - EPOCH).total_seconds() * 1e6)
    edges = [*range(first, first + int(duration * 1e6), step), first + int(duration * 1e6)]
    by_hour: dict[datetime, list[tuple[int, int]]] = {}
    for opened, closed in pairwise(edges):
        hour = hour_of(datetime.fromtimestamp((closed - 1) / 1e6, UTC))
        by_hour.setdefault(hour, []).append((opened, closed))
    finished = []
    for sequence, (hour, intervals) in enumerate(by_hour.items()):
        seen = max(1, round(rows / (len(edges) - 1)))
        columns = {
            "start_time": pa.array([one for one, _ in intervals]),
            "end_time": pa.array([one for _, one in intervals]),
            "kind": pa.array(["interval"] * len(intervals)),
            "source": pa.array(["synthetic"] * len(intervals)),
            "host": pa.array([capture.host] * len(intervals)),
            "active_timeout_us": pa.array([10_000_000] * len(intervals)),
            "sampling_interval": pa.array([1] * len(intervals)),
        }
        columns |= {name: pa.array([seen] * len(intervals)) for name in ("events_seen", "rows_written", "owners_known")}
        columns |= {
            name: pa.array([0] * len(intervals))
            for name in ("events_lost", "lost_in_ring", "lost_in_map", "lost_in_kernel", "lost_on_disk")
        }
        writer = FileWriter(trace, layout.TraceFile("health", hour, capture.host, capture.capture, sequence), scratch)
        writer.write(tables.batch(tables.HEALTH, columns, len(intervals)))
        finished.append(_finish(writer, capture, "end" if sequence == len(by_hour) - 1 else "interval"))
    return finished
