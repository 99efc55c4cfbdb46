"""Tables that a trace describes itself: those of a user's own programs, which no netrec knows beforehand.

Their definitions are part of the capture's metadata, and so of every spool and file, so that a trace is read, checked
and documented on a machine that never saw the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from netrec.errors import TraceError
from netrec.trace import fields as f
from netrec.trace import tables

_TYPES: dict[str, pa.DataType] = {
    "text": f.TEXT,
    "time": f.TIME,
    "int16": f.INT16,
    "int32": f.INT32,
    "int64": f.INT64,
    "float64": f.FLOAT,
    "bool": f.BOOL,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


@dataclass(frozen=True)
class Origin:
    """Where a table comes from: the program's file name, what it says that it is for, the SHA-256 of its bytes."""

    program: str = ""
    description: str = ""
    sha256: str = ""


def describe(table: tables.Table, origin: Origin) -> dict[str, Any]:
    """A table for `CaptureMetadata.definitions`: what JSON can hold."""
    return {
        "meaning": table.meaning,
        "time_column": table.time_column,
        "fields": [[one.name, _NAMES[one.type], one.unit, one.meaning] for one in table.fields],
        "program": origin.program,
        "description": origin.description,
        "sha256": origin.sha256,
    }


def table_of(name: str, definitions: Mapping[str, Any]) -> tables.Table:
    """The built-in table of that name, or the one that the capture's metadata defines.

    Raises `TraceError` when it is neither, or when the definition cannot be understood.
    """
    if name in tables.TABLES or name not in definitions:
        return tables.table(name)
    return decode(name, definitions[name])[0]


def decode(name: str, found: Any) -> tuple[tables.Table, Origin]:
    """What `describe` made; raises `TraceError` when it is not that."""
    try:
        if not tables.usable_name(name):
            raise ValueError("netrec uses this name itself")
        described = tuple(f.Field(field, _TYPES[kind], unit, meaning) for field, kind, unit, meaning in found["fields"])
        columns = {field.name: field.type for field in described}
        if columns.get(found["time_column"]) != f.TIME or len(columns) != len(described):
            raise ValueError("its columns do not fit")
        words = [found["meaning"], *(part for one in described for part in (one.name, one.unit, one.meaning))]
        if not all(isinstance(word, str) for word in words):
            raise ValueError("it is not in words")
        table = tables.Table(name, found["meaning"], described, found["time_column"], "--program")
        return table, Origin(*(str(found.get(key, "")) for key in ("program", "description", "sha256")))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise TraceError(f"the definition of its table {name!r} cannot be used ({problem})") from None
