"""When files change, and the open spools of a capture.

Rotation is aligned to the wall clock: to multiples of the interval within each UTC hour, and always to the
hour itself, so that files of different hosts cover the same times and none spans two partitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from netrec.trace import definition, layout, metadata
from recorder.spool import SpoolFolder, SpoolWriter

HOUR = 3600.0
# Batches of more rows are written as they are.
LARGE_ROWS = 4_096


def next_rotation(now: float, interval: float) -> float:
    """The first boundary after `now` (seconds since 1970) for files of `interval` seconds, at most one hour."""
    hour = math.floor(now / HOUR) * HOUR
    return min(hour + (math.floor((now - hour) / interval) + 1) * interval, hour + HOUR)


@dataclass(frozen=True)
class ClosedSpool:
    """A spool that is to become a Parquet file, and what its footer will say of its end."""

    file: layout.SpoolFile
    closed: str
    closed_time: str
    events_lost: int
    bytes: int


class OpenSpools:
    """The spools that a capture is writing, one per table that has rows in this interval.

    Sequence numbers count from 0 per table; a table without rows uses none.
    """

    def __init__(self, folder: SpoolFolder, capture: metadata.CaptureMetadata, now: float) -> None:
        self._folder = folder
        self._capture = capture
        self._open: dict[str, SpoolWriter] = {}
        self._broken: list[SpoolWriter] = []
        self._next: dict[str, int] = {}
        self._opened = iso(now)

    def begin(self, now: float) -> None:
        """The first files' time begins now (seconds since 1970); nothing was appended yet."""
        self._opened = iso(now)

    @property
    def bytes(self) -> int:
        """Bytes in the open spools."""
        return sum(spool.bytes for spool in self._open.values())

    @property
    def largest(self) -> int:
        """Bytes in the largest open spool."""
        return max((spool.bytes for spool in self._open.values()), default=0)

    def append(self, table: str, batches: Iterable[pa.RecordBatch], events_lost: int) -> int:
        """Append batches of one table, all or none; the number of rows. Raises `OSError` when there is no room."""
        parts = list(_joined(batches))
        if not parts:
            return 0
        spool = self._open.get(table)
        if spool is None:
            self._folder.renew()
            number = self._next.get(table, 0)
            spool = SpoolWriter(
                layout.SpoolFile(self._folder.path, table, number),
                definition.table_of(table, self._capture.definitions).schema,
                self._capture,
                self._opened,
            )
            try:
                spool.append(parts, events_lost)
            except OSError:
                spool.discard()
                raise
            self._open[table] = spool
            self._next[table] = number + 1
        else:
            try:
                spool.append(parts, events_lost)
            except OSError:
                self._broken.append(self._open.pop(table))
                raise
        return sum(batch.num_rows for batch in parts)

    def rotate(self, closed: str, now: float, events_lost: int) -> list[ClosedSpool]:
        """Close every open spool; the next rows go to new ones. `closed`: interval, size, hangup, end, disk_full,
        clock_step."""
        done = []
        for spool in (*self._broken, *self._open.values()):
            spool.close()
            done.append(ClosedSpool(spool.file, closed, iso(now), events_lost, spool.bytes))
        self._open.clear()
        self._broken.clear()
        self._opened = iso(now)
        return done


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches in order, those that are small as one: a part of a spool has a price of its own."""
    small: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows > LARGE_ROWS:
            if small:
                yield pa.concat_batches(small)
                small = []
            yield batch
        elif batch.num_rows:
            small.append(batch)
    if small:
        yield small[0] if len(small) == 1 else pa.concat_batches(small)


def iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 text in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
