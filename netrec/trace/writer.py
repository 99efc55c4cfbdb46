"""Record batches -> one finished Parquet file, with bounded memory.

Rows are gathered up to one row group, sorted by the table's time column and written; the file appears under
its final name whole (write, fsync, rename, fsync of the folder) or not at all. Encodings are chosen per column by
measurement, among those that DuckDB, Polars and Spark read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import layout, metadata, tables
from netrec.trace.columns import take
from netrec.trace.storage import create_file, make_folder, sync

# Scans like large row groups, the recorder's memory small ones: one group is held twice (as read, and sorted).
# Measured: 65,536 rows make files 3% smaller and take 10 MB more.
ROWS_PER_GROUP = 32_768
PARTIAL_SUFFIX = ".partial"

# Differences are small where values grow with time or are drawn at random: times, ids, ephemeral ports. All other
# numbers repeat (sizes, packets, pids, server ports): a dictionary is smaller, and falls back to plain by itself.
_DELTA = {"flow_id", "client_port"}
# The least and greatest text says little unless equal rows lie together: for most columns not worth the time.
_TEXT_WITH_STATISTICS = {"client_address", "server_address", "source", "host"}


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

    `table` is that of the file's name unless it is built in.
    Rows may come in any order; they are sorted within each row group. Raises `OSError` when there is no room;
    the caller then calls `discard`.
    """

    def __init__(
        self,
        trace: Path,
        file: layout.TraceFile,
        scratch: Path,
        rows_per_group: int = ROWS_PER_GROUP,
        table: tables.Table | None = None,
    ) -> None:
        self.file = file
        self._rows_per_group = rows_per_group
        self.rows = 0
        self._table = table or tables.table(file.table)
        self._target = trace / file.relative
        self._partial = scratch / f"{file.table}-{file.sequence:06d}.parquet{PARTIAL_SUFFIX}"
        self._partial.unlink(missing_ok=True)
        os.close(create_file(self._partial))
        self._sink = pa.OSFile(str(self._partial), "wb")
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        schema = self._table.schema
        names = schema.names
        delta = {field.name for field in schema if field.name in _DELTA or pa.types.is_timestamp(field.type)}
        self._parquet = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in names if name not in delta],
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_statistics=[
                field.name
                for field in schema
                if field.name in _TEXT_WITH_STATISTICS or not pa.types.is_dictionary(field.type)
            ],
            write_batch_size=rows_per_group,
            sorting_columns=[pq.SortingColumn(names.index(self._table.time_column))],
            write_page_index=True,
            write_page_checksum=True,  # costs 1% of the time: what a disk did to a page is found on reading
            store_schema=False,
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows; whole row groups go to the file."""
        while batch.num_rows:
            room = self._rows_per_group - self._waiting_rows
            part = batch.slice(0, room)
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            self.rows += part.num_rows
            batch = batch.slice(part.num_rows)
            if self._waiting_rows == self._rows_per_group:
                self._write_group()

    def finish(self, description: metadata.FileMetadata, check: Callable[[Path], None] = lambda path: None) -> Finished:
        """Write the footer and give the file its name; an older file of that name is replaced.

        `check` is called with the whole file before it has its name; what it raises leaves the file without one.
        """
        self._write_group()
        self._parquet.add_key_value_metadata(metadata.encode(description))
        self._parquet.close()
        self._sink.close()
        sync(self._partial)
        check(self._partial)
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
        group = _sorted(self._waiting, self._table.schema, self._table.time_column)
        self._waiting.clear()
        self._waiting_rows = 0
        self._parquet.write_table(group, row_group_size=self._rows_per_group)


def _sorted(batches: list[pa.RecordBatch], schema: pa.Schema, by: str) -> pa.Table:
    """The batches' rows as one table, sorted by the time column `by`; column by column, to hold little twice."""
    times = np.concatenate([_int64(batch.column(by)) for batch in batches])
    order = None if np.all(times[1:] >= times[:-1]) else np.argsort(times, kind="stable")
    # Most columns of most sources hold nothing: those of one type are one and the same array of nulls.
    nulls = {kind: pa.nulls(len(times), kind) for kind in set(schema.types)}
    columns = []
    for index, field in enumerate(schema):
        parts = [batch.column(index) for batch in batches]
        if all(part.null_count == len(part) for part in parts):
            columns.append(nulls[field.type])
            continue
        column = pa.chunked_array(parts).unify_dictionaries().combine_chunks()
        columns.append(column if order is None else take(column, order))
    return pa.Table.from_arrays(columns, schema=schema)


def _int64(column: pa.Array) -> np.ndarray:
    """The numbers of a 64-bit column, without a copy; what stands where one is null is anything."""
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column)]
