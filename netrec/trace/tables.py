"""The Arrow schema of each table, composed of the fields of `netrec.trace.fields`."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import pyarrow as pa

from netrec.errors import TraceError
from netrec.trace import fields as f


@dataclass(frozen=True)
class Table:
    """One table of a trace.

    `time_column` is the column by which its files are sorted and pruned; `needs` is the option of
    `netrec record` that fills it, for the message when a trace does not have it.
    """

    name: str
    meaning: str
    fields: tuple[f.Field, ...]
    time_column: str
    needs: str = ""

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema, without metadata; the order of its columns is part of the format."""
        return pa.schema([field.arrow for field in self.fields])


FLOWS = Table(
    "flows",
    "One row per flow and interval; counters are deltas over [start_time, end_time].",
    f.INTERVAL
    + f.FLOW_LIFE
    + f.FLOW_IDENTITY
    + f.FLOW_COUNTERS
    + f.PROCESS
    + f.SESSION
    + f.SAMPLING
    + f.OBSERVER
    + f.DUPLICATE,
    "end_time",
)
EVENTS = Table(
    "events",
    "Things that happened at a moment; equal events of one flow and interval are one row with a count.",
    (*f.EVENT, f.FLOW_LIFE[1], *f.FLOW_IDENTITY[:-1], *f.PROCESS, *f.EVENT_DETAIL, *f.OBSERVER),
    "time",
    "--events, --dns for what was looked up",
)
HOST = Table(
    "host",
    "Gauges of the host against their limits.",
    f.GAUGE + f.OBSERVER,
    "time",
    "--source ebpf,host",
)
HEALTH = Table(
    "health",
    "The recorder about itself: one row per source and interval, and one per gap or degradation.",
    f.INTERVAL + f.RECORDER_HEALTH + f.OBSERVER,
    "end_time",
)

TABLES: dict[str, Table] = {table.name: table for table in (FLOWS, EVENTS, HOST, HEALTH)}


_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
# Built-in tables, the best known views over them, and what readers build names from.
_TAKEN = re.compile(r"^(flows?|events?|hosts?|health|sessions?|capture|(empty|spool|result)_.*)$")


def usable_name(name: str) -> bool:
    """Whether a table of a user's own program can have that name."""
    return _NAME.match(name) is not None and _TAKEN.match(name) is None and name not in TABLES


def table(name: str) -> Table:
    """The built-in table of that name; raises `TraceError` for an unknown one."""
    try:
        return TABLES[name]
    except KeyError:
        known = ", ".join(TABLES)
        raise TraceError(f"there is no table {name!r} in the trace format", f"the tables are {known}") from None


def empty_column(field: f.Field, rows: int) -> pa.Array:
    """A column of nulls, for a field that a source cannot know. Columns of one type share their memory."""
    if rows > _SHARED_ROWS:
        return pa.nulls(rows, field.type)
    return _shared_nulls(field.type).slice(0, rows)


_SHARED_ROWS = 16_384


@functools.cache
def _shared_nulls(kind: pa.DataType) -> pa.Array:
    return pa.nulls(_SHARED_ROWS, kind)


def batch(table: Table, columns: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    """Compose a record batch of `table` from the columns that the source knows; the others become null.

    A string column may come as plain strings; it is dictionary-encoded here. Raises `KeyError` when a
    column is not a field of the table: a source that misspells a field must not lose it in silence.
    """
    unknown = columns.keys() - {field.name for field in table.fields}
    if unknown:
        raise KeyError(f"not fields of {table.name}: {', '.join(sorted(unknown))}")
    arrays = []
    for field in table.fields:
        column = columns.get(field.name)
        if column is None:
            column = empty_column(field, rows)
        elif column.type != field.type:
            column = column.dictionary_encode() if pa.types.is_string(column.type) else column.cast(field.type)
        arrays.append(column)
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)
