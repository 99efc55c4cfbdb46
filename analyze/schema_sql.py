"""The trace's tables as SQL without rows: what a file of an older format lacks then reads as null.

`queries/_shared/empty_tables.sql` is generated from the trace format by `python -m analyze.reference`, so that opening
a trace does not have to load Arrow.
"""

from __future__ import annotations

import pyarrow as pa

from netrec.trace import tables

_TYPES = {
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMPTZ",
}


def sql_type(type: pa.DataType) -> str:
    """DuckDB's name of a field's type; text is dictionary-encoded in files and VARCHAR in SQL."""
    return _TYPES.get(type, "VARCHAR")


def empty_tables() -> str:
    """One `create view empty_<table>` per table, with `capture` (from the file's name) as its last column."""
    parts = ["-- Generated from the trace format by `python -m analyze.reference`: do not edit."]
    for table in tables.TABLES.values():
        columns = [f'  null::{sql_type(field.type)} as "{field.name}"' for field in table.fields]
        columns.append('  null::VARCHAR as "capture"')
        parts.append(f"create temp view empty_{table.name} as select\n" + ",\n".join(columns) + "\nwhere false;")
    return "\n\n".join(parts) + "\n"
