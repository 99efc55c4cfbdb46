"""Which files of a trace to read: listed by the layout, pruned by partition, each checked cheaply.

A file that cannot be used never stops the others: it is named in one sentence (`Skipped`) and left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from analyze import footer
from netrec.errors import TraceError
from netrec.trace.layout import SPOOL_FOLDER, TraceFile, replaced

# A row's interval may start before its file's hour, and a file is opened in its hour but closed after it.
MARGIN = timedelta(hours=1)


@dataclass(frozen=True)
class DataFile:
    """A finished file that can be read."""

    folder: Path
    name: TraceFile
    footer: footer.Footer

    @property
    def path(self) -> str:
        """Absolute path, as SQL and messages name it."""
        return str(self.folder / self.name.relative)


@dataclass(frozen=True)
class Skipped:
    """A file that was left out, and why (the reason completes "<path>: ...")."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"skipped {self.path}: {self.reason}"


def check_folder(folder: Path) -> None:
    """Raise `TraceError` when the folder is not a trace: does not exist, is a file, or holds no table."""
    if not folder.exists():
        raise TraceError(f"there is no trace {str(folder)!r}", "name the folder that `netrec record -o` wrote")
    if not folder.is_dir():
        raise TraceError(f"{str(folder)!r} is a file, a trace is a folder", "name the folder that holds its tables")
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as problem:
        raise TraceError(f"cannot read the trace {str(folder)!r} ({problem.strerror})") from None
    if SPOOL_FOLDER in names or any(_is_table(folder / name) for name in names):
        return
    inner = next((name for name in names if any(_is_table(path) for path in _folders(folder / name))), None)
    if inner:
        raise TraceError(f"{str(folder)!r} is not a trace, it holds traces", f"name one of them: {folder / inner}")
    raise TraceError(f"{str(folder)!r} holds no trace", "record one with `netrec record -o DIR`")


def tables_of(folders: list[Path]) -> list[str]:
    """Names of the tables that at least one of the traces has a folder for."""
    found = {path.name for folder in folders for path in folder.iterdir() if _is_table(path)}
    return sorted(found)


def open_all(
    folder: Path, table: str, since: datetime | None = None, until: datetime | None = None
) -> tuple[list[DataFile], list[Skipped]]:
    """A table's files whose hour can hold rows of [since, until): those that can be read, and the others."""
    paths = find(folder, table, since, until)
    while True:
        checked = [check(folder, path) for path in paths]
        good = [one for one in checked if isinstance(one, DataFile)]
        bad = [one for one in checked if isinstance(one, Skipped)]
        # Files that are merged or that have expired go at any time; then the folder has changed.
        if not vanished(one.path for one in bad) or (again := find(folder, table, since, until)) == paths:
            return good, bad
        paths = again


def vanished(paths: Iterable[str]) -> bool:
    """Whether one of the files is not there any more."""
    return any(not os.path.lexists(path) for path in paths)


def find(folder: Path, table: str, since: datetime | None = None, until: datetime | None = None) -> list[Path]:
    """Paths below `folder` of a table's files whose hour can hold rows of [since, until); newest partition last.

    Files that a merged one replaces are none of them.
    """
    found: list[Path] = []
    first = (since - MARGIN - timedelta(hours=1)).astimezone(UTC) if since else None
    last = (until + MARGIN).astimezone(UTC) if until else None
    for date in _partitions(folder / table, "date="):
        for hour in _partitions(date, "hour="):
            start = _hour(date.name, hour.name)
            if start and ((first and start < first) or (last and start > last)):
                continue
            names = _names(hour)
            found += [hour / name for name in sorted(names.difference(replaced(names)))]
    return found


def find_replaced(folder: Path, table: str) -> list[tuple[Path, Path]]:
    """Files of a table that are no part of the trace any more, each with the merged file that replaces it."""
    found: list[tuple[Path, Path]] = []
    for date in _partitions(folder / table, "date="):
        for hour in _partitions(date, "hour="):
            found += [(hour / name, hour / merged) for name, merged in sorted(replaced(_names(hour)).items())]
    return found


def check(folder: Path, path: Path) -> DataFile | Skipped:
    """The file, or why it cannot be used."""
    name = TraceFile.parse(path.relative_to(folder))
    if name is None:
        return Skipped(str(path), "not a file of a trace: its name is not <host>-<capture>-<sequence>.parquet")
    try:
        return DataFile(folder, name, footer.read(path))
    except TraceError as problem:
        return Skipped(str(path), str(problem))


def _names(hour: Path) -> set[str]:
    """The names of the files of a partition; none when it has just gone."""
    try:
        with os.scandir(hour) as entries:
            # Files under a temporary name are still being written: they are no part of the trace yet.
            return {
                entry.name for entry in entries if entry.name.endswith(".parquet") and not entry.name.startswith(".")
            }
    except FileNotFoundError:
        return set()


def _partitions(folder: Path, prefix: str) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.name.startswith(prefix) and entry.is_dir())
    except FileNotFoundError:
        return []


def _hour(date: str, hour: str) -> datetime | None:
    try:
        return datetime.fromisoformat(f"{date.removeprefix('date=')}T{hour.removeprefix('hour=')}+00:00")
    except ValueError:
        return None


def _folders(path: Path) -> list[Path]:
    try:
        return [inner for inner in path.iterdir() if inner.is_dir()]
    except OSError:
        return []


def _is_table(path: Path) -> bool:
    try:
        return path.is_dir() and any(inner.name.startswith("date=") for inner in path.iterdir())
    except OSError:
        return False
