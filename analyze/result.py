"""A query's result: a table with the units of its columns, and the notes that belong to it.

The rows stay in DuckDB (in a table of their own, complete: an error while reading the trace comes before the first line
of output) and are taken from there in batches as Python values, or as an Arrow table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from analyze import engine

if TYPE_CHECKING:
    import duckdb
    import pyarrow

    from analyze.header import Chart

TIME_TYPES = {"TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
NUMBER_TYPES = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
_PLAIN_TYPES = NUMBER_TYPES | {"DOUBLE", "FLOAT", "BOOLEAN", "VARCHAR"}


@dataclass(frozen=True)
class Column:
    """One column: DuckDB's type name, the unit that its numbers are in (empty: none) and what it means."""

    name: str
    type: str
    unit: str = ""
    meaning: str = ""

    @property
    def is_time(self) -> bool:
        """Whether rows carry it as integer microseconds since 1970, UTC."""
        return self.type in TIME_TYPES

    @property
    def is_number(self) -> bool:
        """Whether it is right-aligned and may have a unit."""
        return self.type in NUMBER_TYPES or self.type in {"DOUBLE", "FLOAT"} or self.type.startswith("DECIMAL")


@dataclass
class Context:
    """What an answer rests on: shown under a table, and in the envelope of `--format json`.

    `since` and `until` are the window that was analysed (microseconds since 1970, UTC; None: the trace is empty);
    `lost` of `seen` events were lost in it, None when the trace does not say. `gaps` are the times of no recording,
    as (start, end, reason). Rows stood for `least_sampling` to `sampling` flows; `sampling_error` is the relative half
    width of the 95% interval of all flows and of all bytes. `steps` are the times at which the recorder did less, or
    more again, to keep within its budget, as (time, degraded or restored, reason). `notes` are sentences; `skipped`
    names files that were left out.
    """

    since: int | None = None
    until: int | None = None
    seen: int | None = None
    lost: int | None = None
    sampling: int = 1
    least_sampling: int = 1
    sampling_error: dict[str, float] = field(default_factory=dict)
    steps: list[tuple[int, str, str]] = field(default_factory=list)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Result:
    """Rows in a table of a DuckDB connection."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, table: str, columns: list[Column], name: str = ""
    ) -> None:
        self.connection = connection
        self.table = table
        self.columns = columns
        self.name = name
        self.context = Context()
        # Of a query of the catalogue: how to draw it, what it answers, and the SQL that did.
        self.chart: Chart | None = None
        self.summary = ""
        # How many rows were asked for at the most (0: all).
        self.most = 0
        self.sql = ""

    def __len__(self) -> int:
        return int(first(self.connection, f"select count(*) from {self.table}")[0])

    def rows(self, batch: int = 10_000) -> Iterator[tuple[Any, ...]]:
        """Every row: integers, floats, booleans, text or None; times are integer microseconds since 1970, UTC."""
        cursor = self.connection.cursor()
        cursor.execute(f"select {', '.join(_plain(column) for column in self.columns)} from {self.table}")
        while rows := cursor.fetchmany(batch):
            yield from rows

    def arrow(self) -> pyarrow.Table:
        """The rows as an Arrow table; 128-bit sums come as int64 (as float64 where they do not fit)."""
        selected = ", ".join(self._arrow_column(column) for column in self.columns)
        engine.exchange_arrow()
        return self.connection.sql(f"select {selected} from {self.table}").to_arrow_table()

    def _arrow_column(self, column: Column) -> str:
        name = quoted(column.name)
        if column.type != "HUGEINT":
            return name
        largest = first(self.connection, f"select max(abs({name})) from {self.table}")[0]
        fits = largest is None or largest < 2**63
        return f"{name}::{'BIGINT' if fits else 'DOUBLE'} as {name}"


def first(connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
    """The first row; takes the whole result, because one that is not taken whole blocks the connection."""
    return connection.execute(sql, parameters or []).fetchall()[0]


def described(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    """Names and types of a table's or view's columns."""
    executed = connection.execute(f"select * from {table} limit 0")
    columns = [(item[0], str(item[1])) for item in executed.description or []]
    executed.fetchall()
    return columns


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def microseconds(moment: datetime) -> int:
    """Integer microseconds since 1970, UTC, without the rounding of floats."""
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _plain(column: Column) -> str:
    name = quoted(column.name)
    if column.is_time:
        return f"epoch_us({name})"
    if column.type in _PLAIN_TYPES:
        return name
    if column.type.startswith("DECIMAL"):
        return f"{name}::DOUBLE"
    return f"{name}::VARCHAR"
