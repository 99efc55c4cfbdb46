"""The catalogue: every query file, found by its path.

Folders in order: the built-in `queries/`, `~/.config/netrec/queries` (XDG_CONFIG_HOME), then each `--queries DIR`;
a later folder's query replaces an earlier one of the same name. A file's path below its folder is its name
(`dns/slow.sql` -> `dns/slow`); names that begin with an underscore are not commands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import queries
from analyze import header
from analyze.header import Query
from netrec.errors import QueryError

BUILT_IN = Path(queries.__file__).parent


def folders(extra: Sequence[Path] = ()) -> list[Path]:
    """The query folders in force; raises `QueryError` when one of `extra` is not a folder."""
    for folder in extra:
        if not folder.is_dir():
            raise QueryError(f"--queries: there is no folder {str(folder)!r}", "name a folder of .sql files")
    return [BUILT_IN, *user_folders(extra)]


def user_folders(extra: Sequence[Path] = ()) -> list[Path]:
    """The folders besides the built-in one."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    own = Path(home, "netrec", "queries")
    return [*([own] if own.is_dir() else []), *extra]


def paths(extra: Sequence[Path] = ()) -> dict[str, Path]:
    """Name -> query file, sorted by name; parses nothing."""
    found: dict[str, Path] = {}
    for folder in folders(extra):
        for path in sorted(folder.rglob("*.sql")):
            parts = path.relative_to(folder).with_suffix("").parts
            if not any(part.startswith(("_", ".")) for part in parts):
                found["/".join(parts)] = path
    return dict(sorted(found.items()))


def load(name: str, extra: Sequence[Path] = ()) -> Query:
    """The parsed query of that name; raises `QueryError` when there is none or its header is malformed."""
    known = paths(extra)
    if name not in known:
        from analyze.messages import nearest

        raise QueryError(f"there is no query {name!r}", nearest(name, list(known)))
    return parse(known[name], name)


@cache
def parse(path: Path, name: str) -> Query:
    """The parsed query file; raises `QueryError` when its header is malformed."""
    return header.parse(path, name)


def summary(path: Path) -> str:
    """The first sentence of a query file, without parsing the rest: for lists of commands."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
    except (OSError, UnicodeDecodeError):
        return "(cannot be read)"
    return re.sub(r"^--\s*", "", first).strip()
