"""Merging small files of a trace: what `netrec compact` does.

Neighbours are merged: finished files of one table, UTC hour, host and capture whose numbers follow each other. What
they hold stays as it is, in the recorder's own encoding; their footers become one that tells each
(`FileMetadata.parts`).
The merged file is written beside the trace's files, compared with what it replaces row by row, and given its name; then
the replaced ones are removed. Whatever ends this in between, no row is lost or counted twice: before the name is there,
the old files are the trace, afterwards the new one is (`layout.replaced`), and the next run removes what is left.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from analyze import files, verification
from analyze.engine import duckdb
from analyze.result import literal, quoted
from netrec.errors import TraceError
from netrec.trace import definition, layout, storage
from netrec.trace.metadata import FileMetadata
from netrec.trace.writer import PARTIAL_SUFFIX, FileWriter

# As many rows as DuckDB takes at a time: who reads whole days reads larger groups faster, and memory is no concern.
ROWS_PER_GROUP = 122_880


class Busy(TraceError):
    """Someone else is merging files of this trace."""


@dataclass(frozen=True)
class Small:
    """A file that may be merged."""

    path: Path
    name: layout.TraceFile
    about: FileMetadata
    size: int


@dataclass
class Count:
    """What became of one table, or (of a dry run) would: files and bytes before and after.

    `size_after` is None as long as nobody has written the merged files; `merged` are those among the files before.
    """

    files: int = 0
    files_after: int = 0
    size: int = 0
    size_after: int | None = 0
    merged: int = 0


@dataclass
class Outcome:
    """What became of a trace: by table; files that were left alone because they are damaged, with the reason; files
    without a row of the trace that an earlier run had left."""

    tables: dict[str, Count] = field(default_factory=dict)
    damaged: list[files.Skipped] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)


def compact(folder: Path, target_size: int, before: datetime, dry_run: bool = False) -> Iterator[Outcome]:
    """Merge the files of hours that ended before a moment, up to about `target_size` bytes each; after every hour what
    was done so far.

    Raises `Busy` when another run is at it, `TraceError` when the folder is no trace, `OSError` when it cannot be
    written to.
    """
    files.check_folder(folder)
    outcome = Outcome()
    with _nothing(folder) if dry_run else _scratch(folder) as scratch:
        for table in files.tables_of([folder]):
            if not dry_run:
                _remove_replaced(folder, table, outcome)
            count = outcome.tables.setdefault(table, Count())
            for _, paths in groupby(files.find(folder, table), key=lambda path: path.parent):
                _hour(folder, list(paths), target_size, before, count, outcome, None if dry_run else scratch)
                yield outcome


def _hour(
    folder: Path,
    paths: list[Path],
    target_size: int,
    before: datetime,
    count: Count,
    outcome: Outcome,
    scratch: Path | None,
) -> None:
    """One partition: its files counted, and merged if it has ended."""
    known: list[Small] = []
    for path in paths:
        checked = files.check(folder, path)
        if isinstance(checked, files.DataFile):
            with suppress(TraceError):
                known.append(Small(path, checked.name, checked.footer.file, checked.footer.size))
                continue
        outcome.damaged += [] if files.vanished([str(path)]) else [_reason(folder, path)]
    total = sum(one.size for one in known)
    count.files += len(known)
    count.size += total
    remaining = len(known)
    ended = bool(known) and known[0].name.hour + timedelta(hours=1) <= before
    while ended and (groups := groups_of(known, target_size)):
        group = groups[0]
        try:
            if scratch:
                total += _merge(folder, group, scratch) - sum(one.size for one in group)
        except _Damaged as problem:
            outcome.damaged.append(problem.file)
            known = [one for one in known if str(one.path) != problem.file.path]
            continue
        except FileNotFoundError:  # retention has just deleted one: it will see to the others
            pass
        except TraceError as problem:
            outcome.damaged.append(files.Skipped(str(group[0].path), str(problem)))
        else:
            remaining -= len(group) - 1
            count.merged += len(group)
        done = {one.path for one in group}
        known = [one for one in known if one.path not in done]
    count.files_after += remaining
    count.size_after = None if scratch is None else (count.size_after or 0) + total


def groups_of(known: Sequence[Small], target_size: int) -> list[list[Small]]:
    """Which files to merge with each other: neighbours that agree in all that their captures say of themselves, up to
    about `target_size` bytes together; larger ones stay as they are."""
    groups: list[list[Small]] = []
    size = 0
    for one in sorted(known, key=lambda one: (one.name.host, one.name.capture, one.name.sequence)):
        before = groups[-1][-1] if groups else None
        if before and size + one.size <= target_size and _are_neighbours(before, one):
            groups[-1].append(one)
            size += one.size
        else:
            groups.append([one])
            size = one.size
    return [group for group in groups if len(group) > 1]


def _are_neighbours(before: Small, one: Small) -> bool:
    return before.about.capture == one.about.capture and before.name.numbers.stop == one.name.sequence


class _Damaged(Exception):
    def __init__(self, file: files.Skipped) -> None:
        super().__init__(str(file))
        self.file = file


def _merge(folder: Path, group: list[Small], scratch: Path) -> int:
    """Write the merged file and remove those that it replaces; its bytes."""
    about = FileMetadata.merged([one.about for one in group])
    first = group[0].name
    name = layout.TraceFile(
        first.table, first.hour, first.host, first.capture, first.sequence, group[-1].name.numbers[-1]
    )
    table = definition.table_of(about.table, about.capture.definitions)
    writer = FileWriter(folder, name, scratch, ROWS_PER_GROUP, table=table)
    try:
        columns: list[str] = []
        for one in group:
            try:
                for batch in verification.read_whole(folder, one.path):
                    columns = batch.schema.names
                    writer.write(_as_written(batch, table.schema))
            except TraceError as problem:
                if files.vanished([str(one.path)]):
                    raise FileNotFoundError(str(one.path)) from None
                raise _Damaged(files.Skipped(str(one.path), problem.message)) from None

        def check(path: Path) -> None:
            _own(path, group[0].path)
            try:
                same = _sum([path], columns) == _sum([one.path for one in group], columns)
            except duckdb.Error as problem:
                if files.vanished(str(one.path) for one in group):
                    raise FileNotFoundError(str(group[0].path)) from None
                raise TraceError(f"it cannot be merged with its neighbours ({problem})") from None
            if not same:
                raise TraceError("merged with its neighbours it would not be what it was: please report this")

        finished = writer.finish(about, check)
    except BaseException:
        writer.discard()
        raise
    for one in group:
        one.path.unlink(missing_ok=True)
    storage.sync(finished.path.parent)
    return finished.bytes


def _as_written(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch as it was read, in the columns and types that are written; columns that its file lacks are null."""
    names = set(batch.schema.names)
    columns = [
        batch.column(field.name).cast(field.type) if field.name in names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _sum(paths: list[Path], columns: list[str]) -> tuple[object, ...]:
    """Rows, and the sum of their hashes: of the same rows the same, whatever their order."""
    names = ", ".join(literal(str(path)) for path in paths)
    chosen = ", ".join(quoted(column) for column in columns)
    source = f"read_parquet([{names}], hive_partitioning = false)"
    row = _engine().execute(f"select count(*), sum(hash(line)) from (select {chosen} from {source}) line").fetchone()
    return tuple(row or ())


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One for all: to make one takes longer than to compare some files."""
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("set enable_progress_bar = false")
    return connection


def _own(path: Path, original: Path) -> None:
    """Give a file the owner and mode of another, as far as this user may: who could read the trace still can."""
    about = original.stat()
    with suppress(PermissionError):
        os.chown(path, about.st_uid, about.st_gid)
    path.chmod(about.st_mode & 0o777)


def _remove_replaced(folder: Path, table: str, outcome: Outcome) -> None:
    """Remove what a run that was killed has left, once the file that replaces it has proved whole."""
    for path, merged in files.find_replaced(folder, table):
        try:
            verification.verify_file(folder, merged)
        except TraceError as problem:
            outcome.damaged.append(files.Skipped(str(merged), problem.message))
            continue
        path.unlink(missing_ok=True)
        outcome.removed.append(path)


def _reason(folder: Path, path: Path) -> files.Skipped:
    try:
        verification.verify_file(folder, path)
    except TraceError as problem:
        return files.Skipped(str(path), problem.message)
    return files.Skipped(str(path), "its footer cannot be read")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """The trace's folder for files that grow, while it is locked; gone afterwards."""
    path = folder / layout.COMPACT_FOLDER
    storage.make_folder(path)
    held = storage.lock(path / layout.LOCK_FILE)
    if held is None:
        raise Busy(f"another netrec compact is at work in {folder}", "wait until it is done")
    try:
        for left in path.glob(f"*{PARTIAL_SUFFIX}"):
            left.unlink()
        yield path
    finally:
        with suppress(OSError):
            (path / layout.LOCK_FILE).unlink()
            path.rmdir()
        os.close(held)


@contextmanager
def _nothing(folder: Path) -> Iterator[Path]:
    yield folder
