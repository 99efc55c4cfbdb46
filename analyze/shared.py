"""The shared SQL of `queries/_shared/`: views over the raw tables, macros, and the dimensions to group by.

Each file is plain SQL that creates views and macros. It runs when a statement first mentions one of them (binding a
view takes time, so a query pays for those that it uses) and the tables that its `@table` lines name are open.
`@dimension` lines (see `analyze.header`) define what `--by` can group by, for every query.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
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
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_CREATED = re.compile(r"^\s*create\s+(?:or\s+replace\s+)?temp\s+(?:view|macro|table)\s+([a-z_][a-z0-9_]*)", re.I | re.M)
_WINDOW_MACROS = ("in_window", "window_start", "window_end")


class Shared:
    """The views and macros that a connection can have; each is created when it is first mentioned."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._makers: dict[str, tuple[tuple[str, ...], Callable[[Scan], None]]] = {}
        self._made: set[Callable[[Scan], None]] = set()
        self._offer(_WINDOW_MACROS, (), create_window_macros)
        self._offer(counting.MACROS, ("flows",), counting.create_macros)
        for folder in (BUILT_IN, *folders):
            for file in files_of(folder):
                self._offer(names_of(file), file.tables, functools.partial(_run, file))

    @property
    def names(self) -> list[str]:
        """Every view and macro that there is."""
        return sorted(self._makers)

    def provide(self, sql: str, scan: Scan) -> None:
        """Create what a statement mentions, and what that rests on, as far as the tables are open."""
        for word in dict.fromkeys(_WORD.findall(sql.lower())):
            if word not in self._makers:
                continue
            tables, make = self._makers[word]
            if make not in self._made and all(table in scan.views for table in tables):
                self._made.add(make)
                make(scan)

    def _offer(self, names: Sequence[str], tables: tuple[str, ...], make: Callable[[Scan], None]) -> None:
        self._makers |= dict.fromkeys(names, (tables, make))


def names_of(file: header.SharedFile) -> list[str]:
    """The views, macros and tables that a shared file creates."""
    return [name.lower() for name in _CREATED.findall(file.sql)]


def _run(file: header.SharedFile, scan: Scan) -> None:
    scan.execute(file.sql)


@functools.cache
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


def create_empty_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """The tables without rows, which give every column of the format its type."""
    connection.execute((BUILT_IN / FOLDER / _EMPTY).read_text())


def create_window_macros(scan: Scan) -> None:
    """`in_window(time)`, and the window's ends in microseconds since 1970 (far away where it is unbounded)."""
    since, until = scan.window.since, scan.window.until
    scan.execute(f"create temp macro in_window(moment) as {scan.in_window('moment')}")
    scan.execute(f"create temp macro window_start() as {microseconds(since) if since else -_FAR}::BIGINT")
    scan.execute(f"create temp macro window_end() as {microseconds(until) if until else _FAR}::BIGINT")
