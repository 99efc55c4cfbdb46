"""The shared SQL of `queries/_shared/`: views over the raw tables, macros, and the dimensions to group by.

Each file is plain SQL that creates views and macros. Each of them is created when a statement first mentions it
(binding a view takes time, so a query pays for those that it uses) and the tables that its file's `@table` lines name
are open.
`@dimension` lines (see `analyze.header`) define what `--by` can group by, for every query.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import queries
from analyze import counting, header, sandbox
from analyze.result import microseconds

if TYPE_CHECKING:
    from analyze.scan import Scan

FOLDER = "_shared"
BUILT_IN = Path(queries.__file__).parent
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
        for name, define in counting.macros().items():
            self._offer((name,), ("flows",), define)
        for folder in (BUILT_IN, *folders):
            for file in files_of(folder):
                for name, sql in statements_of(file):
                    make: Callable[[Scan], None] = functools.partial(_run, sql)
                    if name == "flow_with_losses":
                        make = functools.partial(counting.losses, make)
                    self._offer((name,), file.tables, make)

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


@functools.cache
def statements_of(file: header.SharedFile) -> tuple[tuple[str, str], ...]:
    """What a shared file creates: the name of each view, macro or table, and the SQL up to the next one."""
    created = list(_CREATED.finditer(file.sql))
    starts = [0, *(match.start() for match in created[1:]), len(file.sql)]
    return tuple(
        (match[1].lower(), file.sql[start:end]) for match, (start, end) in zip(created, pairwise(starts), strict=True)
    )


def _run(sql: str, scan: Scan) -> None:
    scan.execute(sql)


@functools.cache
def files_of(folder: Path) -> tuple[header.SharedFile, ...]:
    """The shared files of a query folder, parsed."""
    found = sorted((folder / FOLDER).glob("*.sql"))
    return tuple(header.parse_shared(path) for path in found if path != sandbox.EMPTY_TABLES)


def dimensions(folders: Sequence[Path] = ()) -> dict[str, header.Dimension]:
    """Every dimension by name; one of a user's folder replaces the built-in one."""
    found: dict[str, header.Dimension] = {}
    for folder in (BUILT_IN, *folders):
        for file in files_of(folder):
            found |= {dimension.name: dimension for dimension in file.dimensions}
    return found


def create_window_macros(scan: Scan) -> None:
    """`in_window(time)`, and the window's ends in microseconds since 1970 (far away where it is unbounded)."""
    since, until = scan.window.since, scan.window.until
    scan.execute(f"create temp macro in_window(moment) as {scan.in_window('moment')}")
    scan.execute(f"create temp macro window_start() as {microseconds(since) if since else -_FAR}::BIGINT")
    scan.execute(f"create temp macro window_end() as {microseconds(until) if until else _FAR}::BIGINT")
