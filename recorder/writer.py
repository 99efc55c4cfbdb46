"""Record batches -> one finished Parquet file, with bounded memory.

Rows are gathered up to one row group, sorted by the table's time column and written; the file appears under
its final name whole (write, fsync, rename, fsync of the folder) or not at all. The choice of encodings per
column is measured: see `_encoding`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import layout, metadata, tables
from recorder.spool import create_file, make_folder, sync

# Scans like large row groups, the recorder's memory small ones: one group is held twice (as read, and sorted).
ROWS_PER_GROUP = 65_536
PARTIAL_SUFFIX = ".partial"

# Differences are small where values grow with time or are drawn at random: times, ids, ephemeral ports. All other
# numbers repeat (sizes, packets, pids, server ports): a dictionary is smaller, and falls back to plain by itself.
_DELTA = {"start_time", "end_time", "flow_start_time", "time", "flow_id", "client_port"}


@dataclass(frozen=True)
class Finished:
    """A file that has its final name."""

    path: Path
    rows: int
    bytes: int


def time_of(text: str) -> datetime:
    """The moment that an ISO 8601 text of a footer or spool names, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def hour_of(moment: datetime) -> datetime:
    """The start of its UTC hour: the partition of a file that was opened then."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


class FileWriter:
    """Writes one file of a trace; `scratch` is where it grows (on the trace's file system).

    Rows may come in any order; they are sorted within each row group. Raises `OSError` when there is no room;
    the caller then calls `discard`.
    """

    def __init__(self, trace: Path, file: layout.TraceFile, scratch: Path) -> None:
        self.file = file
        self.rows = 0
        self._table = tables.table(file.table)
        self._target = trace / file.relative
        self._partial = scratch / f"{file.table}-{file.sequence:06d}.parquet{PARTIAL_SUFFIX}"
        self._partial.unlink(missing_ok=True)
        os.close(create_file(self._partial))
        self._sink = pa.OSFile(str(self._partial), "wb")
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        schema = self._table.schema
        names = schema.names
        self._parquet = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in names if name not in _DELTA],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in names if name in _DELTA},
            sorting_columns=[pq.SortingColumn(names.index(self._table.time_column))],
            write_page_index=True,
            store_schema=False,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; whole row groups go to the file."""
        while batch.num_rows:
            room = ROWS_PER_GROUP - self._waiting_rows
            part = batch.slice(0, room)
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            self.rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if self._waiting_rows == ROWS_PER_GROUP:
                self._write_group()

    def finish(self, description: metadata.FileMetadata) -> Finished:
        """Write the footer and give the file its name; an older file of that name is replaced."""
        self._write_group()
        self._parquet.add_key_value_metadata(metadata.encode(description))
        self._parquet.close()
        self._sink.close()
        sync(self._partial)
        size = self._partial.stat().st_size
        while True:
            make_folder(self._target.parent)
            try:
                self._partial.rename(self._target)
                break
            except FileNotFoundError:  # retention of another recorder removed the empty folder
                continue
        sync(self._target.parent)
        return Finished(self._target, self.rows, size)

    def discard(self) -> None:
        """Give the file up; never raises."""
        for close in (self._parquet.close, self._sink.close):
            try:
                close()
            except (OSError, pa.ArrowException):
                pass
        self._partial.unlink(missing_ok=True)

    def _write_group(self) -> None:
        if not self._waiting:
            return
        group = pa.Table.from_batches(self._waiting).unify_dictionaries().combine_chunks()
        self._waiting.clear()
        self._waiting_rows = 0
        self._parquet.write_table(_sorted(group, self._table.time_column), row_group_size=ROWS_PER_GROUP)


def _sorted(group: pa.Table, by: str) -> pa.Table:
    times = group.column(by).chunk(0).view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if np.all(times[1:] >= times[:-1]):
        return group
    order = pa.array(np.argsort(times, kind="stable"))
    # A column of nulls is the same in any order, and most columns of most sources are that.
    known = [name for name in group.column_names if group.column(name).null_count < len(times)]
    ordered = group.select(known).take(order)
    return pa.table(
        [ordered.column(name) if name in known else group.column(name) for name in group.column_names],
        schema=group.schema,
    )
