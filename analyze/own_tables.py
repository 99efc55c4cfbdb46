"""The tables of traces that are not built in: those of users' own programs, as the traces themselves define them.

A capture's metadata, which every file's footer and every spool carries, holds their definitions. A trace without such
tables costs one footer to find that out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyze import files, spool
from analyze.result import quoted
from netrec.errors import TraceError

if TYPE_CHECKING:
    from netrec.trace.definition import Origin
    from netrec.trace.fields import Field

BUILT_IN = ("flows", "events", "host", "health")


@dataclass(frozen=True)
class OwnTable:
    """One table, and the program that it comes from."""

    name: str
    meaning: str
    time_column: str
    fields: tuple[Field, ...]
    origin: Origin


def find(folders: Iterable[Path]) -> dict[str, OwnTable]:
    """Every own table of the traces by name; where traces define one differently, it has the columns of all."""
    found: dict[str, OwnTable] = {}
    for folder in folders:
        for definitions in _definitions(folder):
            for name, definition in definitions.items():
                try:
                    table = _decoded(name, definition)
                except TraceError:
                    continue  # the files of that table are named when someone asks for them
                found[name] = _merged(found.get(name), table)
    return found


def empty_view(table: OwnTable) -> str:
    """SQL that creates `empty_<table>`: all its columns, and no row."""
    from analyze.schema_sql import sql_type

    columns = [f"null::{sql_type(field.type)} as {quoted(field.name)}" for field in table.fields]
    columns.append("null::VARCHAR as capture")
    return f"create or replace temp view {quoted(f'empty_{table.name}')} as select {', '.join(columns)} where false"


def _definitions(folder: Path) -> Iterator[dict[str, Any]]:
    """The definitions in the newest file of each own table, and of `health`, whose capture may have some."""
    names = {name for name in files.tables_of([folder]) if name not in BUILT_IN}
    for name in [*sorted(names), "health"]:
        for path in reversed(files.find(folder, name)[-1:]):
            checked = files.check(folder, path)
            if isinstance(checked, files.DataFile):
                yield _parsed(checked.footer.text("definitions"))
    for one in spool.find(folder, "*"):
        if one.file.table not in BUILT_IN and one.capture:
            yield one.capture.definitions


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _decoded(name: str, definition: Any) -> OwnTable:
    from netrec.trace.definition import decode

    table, origin = decode(name, definition)
    return OwnTable(name, table.meaning, table.time_column, table.fields, origin)


def _merged(before: OwnTable | None, table: OwnTable) -> OwnTable:
    if before is None:
        return table
    known = {field.name for field in table.fields}
    return replace(table, fields=(*table.fields, *(field for field in before.fields if field.name not in known)))
