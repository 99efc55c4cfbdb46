"""The shared SQL of `queries/_shared/`: views over the raw tables, macros, and the dimensions to group by.

Each file is plain SQL, loaded as soon as the tables that its `@table` lines name are open. `@dimension` lines (see
`analyze.header`) define what `--by` can group by, for every query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import queries
from analyze import counting, header
from analyze.result import microseconds

if TYPE_CHECKING:
    import duckdb

    from analyze.scan import Scan

FOLDER = "_shared"
BUILT_IN = Path(queries.__file__).parent
_EMPTY = "empty_tables.sql"
_FAR = 2**60  # microseconds: the year 38,000


@dataclass
class Shared:
    """The shared files of all query folders, and which of them this connection has loaded."""

    files: list[header.SharedFile]
    loaded: set[Path]


@cache
def files_of(folder: Path) -> tuple[header.SharedFile, ...]:
    """The shared files of a query folder, parsed."""
    found = sorted((folder / FOLDER).glob("*.sql"))
    return tuple(header.parse_shared(path) for path in found if path.name != _EMPTY)


def dimensions(folders: Sequence[Path] = ()) -> dict[str, header.Dimension]:
    """Every dimension by name; one of a user's folder replaces the built-in one."""
    found: dict[str, header.Dimension] = {}
    for folder in (BUILT_IN, *folders):
        for file in files_of(folder):
            found |= {dimension.name: dimension for dimension in file.dimensions}
    return found


def load(folders: Sequence[Path] = ()) -> Shared:
    """The shared files for a new connection."""
    return Shared([file for folder in (BUILT_IN, *folders) for file in files_of(folder)], set())


def create_empty_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables without rows, which give every column of the format its type."""
    connection.execute((BUILT_IN / FOLDER / _EMPTY).read_text())


def create_window_macros(scan: Scan) -> None:
    """`in_window(time)`, and the window's ends in microseconds since 1970 (far away where it is unbounded)."""
    since, until = scan.window.since, scan.window.until
    scan.execute(f"create temp macro in_window(moment) as {scan.in_window('moment')}")
    scan.execute(f"create temp macro window_start() as {microseconds(since) if since else -_FAR}::BIGINT")
    scan.execute(f"create temp macro window_end() as {microseconds(until) if until else _FAR}::BIGINT")


def create_views(shared: Shared, opened: str, scan: Scan) -> None:
    """Run the shared files that can run now that the table `opened` is open."""
    if opened == "flows":
        counting.create_macros(scan)
    if not shared.loaded:
        create_window_macros(scan)
    for file in shared.files:
        if file.path not in shared.loaded and all(table in scan.views for table in file.tables):
            shared.loaded.add(file.path)
            scan.execute(file.sql)
