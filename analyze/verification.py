"""Checking every file of a trace whole: what `netrec verify` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from analyze import files, inventory
from netrec.errors import TraceError
from netrec.trace import definition, metadata
from netrec.trace.layout import TraceFile


def problems_of(folder: Path) -> tuple[list[str], int, int]:
    """Everything that is wrong in a trace, one sentence each; and the files and rows that are fine.

    Raises `TraceError` when the folder is no trace.
    """
    files.check_folder(folder)
    found: list[str] = []
    good = rows = 0
    for table in files.tables_of([folder]):
        for path in files.find(folder, table):
            try:
                rows += verify_file(folder, path)
                good += 1
            except TraceError as problem:
                found.append(f"{path}: {problem}")
    for capture in inventory.take([folder]).captures:
        for table, first, last in capture.holes():
            numbers = f"{first}" if first == last else f"{first} to {last}"
            found.append(f"{folder}: {table} files {numbers} of {capture.host} {capture.capture} are missing")
    return found, good, rows


def verify_file(folder: Path, path: Path) -> int:
    """Read one file whole and return its rows; raises `TraceError` that says what is wrong with it."""
    return sum(batch.num_rows for batch in read_whole(folder, path))


def read_whole(folder: Path, path: Path) -> Iterator[pa.RecordBatch]:
    """Every row of a file, a batch at a time; raises `TraceError` when anything is wrong, at the end at last."""
    name = TraceFile.parse(path.relative_to(folder))
    if name is None:
        raise TraceError("not a file of a trace: its name is not <host>-<capture>-<sequence>.parquet")
    checked = files.check(folder, path)
    if isinstance(checked, files.Skipped):
        raise TraceError(checked.reason)
    try:
        # Nothing is read ahead: files are many and small, or read from end to end.
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            about = metadata.decode_file(file.schema_arrow.metadata)
            _check_names(name, about)
            _check_schema(file.schema_arrow, about)
            counted = 0
            for batch in file.iter_batches():
                counted += batch.num_rows
                yield batch
    except (pa.ArrowException, OSError) as problem:
        reason = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
        raise TraceError(f"damaged: it cannot be read whole ({reason})") from None
    if counted != about.rows:
        raise TraceError(f"it holds {counted:,} rows, its footer says {about.rows:,}")


def _check_names(name: TraceFile, about: metadata.FileMetadata) -> None:
    stated = (about.table, about.capture.capture, about.sequence)
    if stated != (name.table, name.capture, name.sequence):
        raise TraceError(
            f"its footer says {stated[0]}, capture {stated[1]}, sequence {stated[2]}; its name says otherwise"
        )
    if [one.sequence for one in about.originals] != list(name.numbers):
        raise TraceError("its footer does not say that it holds the files of its name")
    if sum(one.rows for one in about.originals) != about.rows:
        raise TraceError("its footer's parts do not make up its rows")


def _check_schema(schema: pa.Schema, about: metadata.FileMetadata) -> None:
    table = definition.table_of(about.table, about.capture.definitions)
    expected = {field.name: field.type for field in table.fields}
    for field in schema:
        if field.name not in expected:
            raise TraceError(f"its column {field.name!r} is not in the trace format")
        if _plain(field.type) != _plain(expected[field.name]):
            raise TraceError(f"its column {field.name!r} is {field.type}, the format says {expected[field.name]}")
    # Earlier formats had fewer columns: they read as null.
    for field in table.fields:
        if field.since <= about.capture.format_version and field.name not in schema.names:
            raise TraceError(f"its column {field.name!r} is missing")


def _plain(type: pa.DataType) -> pa.DataType:
    return type.value_type if pa.types.is_dictionary(type) else type
