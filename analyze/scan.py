"""Trace folders -> DuckDB views: the only reader of Parquet.

A `Scan` gives the raw tables (`flows`, `events`, `host`, `health`, and those of users' own programs that the traces
define themselves: each with a `capture` column, cut to the time window and the filter) and the shared views over them
(`queries/_shared/*.sql`). Its connection is a sandbox: it reads the trace and nothing else, and writes nothing (see
`analyze.sandbox`). Files that cannot be used are left out and named in `skipped`. Views are made when a table is first
required, so a query pays only for the tables that it reads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from analyze import damage, engine, files, own_tables, progress, sandbox, shared, spool
from analyze.engine import duckdb
from analyze.moments import moment
from analyze.result import Column, Result, described, first, literal, quoted
from analyze.window import resolve
from netrec.errors import MissingTableError, NetrecError, TraceError
from netrec.trace.compat import FIX_UPS

if TYPE_CHECKING:
    import pyarrow

    from analyze.filters import Filter


class Rows(Protocol):
    """What takes rows batch by batch (see `Scan.fold`)."""

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Take some rows."""


Into = TypeVar("Into", bound=Rows)
_BATCH_ROWS = 245_760
_TIME_COLUMN = {"flows": "end_time", "events": "time", "host": "time", "health": "end_time"}
_START_COLUMN = {"flows": "start_time", "events": "time", "host": "time", "health": "start_time"}
# The options of `netrec record` that fill a table.
RECORDED_BY = {"events": "--events", "host": "--source ebpf,host"}
_LARGE_FILE = 2**18
_CAPTURE = r"regexp_extract(filename, '([^/]+)-[0-9_]+\.parquet$', 1)"


class Scan:
    """One or more traces, opened for reading.

    `since`, `until`, `last` and `filter` are texts as the command line takes them (see `analyze.window` and
    `analyze.filters`); `timezone` is what times without an offset are in (None: the machine's). Raises `TraceError`
    when a folder is no trace, `UsageError` and `QueryError` for unusable options.
    """

    def __init__(
        self,
        folders: Sequence[Path | str],
        *,
        since: str | None = None,
        until: str | None = None,
        last: str | None = None,
        filter: str = "",
        timezone: tzinfo | None = None,
        shared_folders: Sequence[Path] = (),
    ) -> None:
        self.timezone = timezone
        self.folders = list(dict.fromkeys(Path(folder).absolute() for folder in folders))
        for folder in self.folders:
            files.check_folder(folder)
        self.skipped: list[files.Skipped] = []
        self.notes: list[str] = []
        self.views: set[str] = set()
        # Every question put to it, for reports that say how they were made.
        self.asked: list[str] = []
        self.weighted: bool | None = None  # counting.is_weighted
        self.files: dict[str, list[files.DataFile]] = {}
        self.spools: dict[str, list[spool.Spool]] = {}
        self.connection = sandbox.connect(self.folders)
        self.shared = shared.Shared(shared_folders)
        self._names = itertools.count()
        self.own = self._own_tables()
        self.filter = self._filter(filter) if filter else None
        self.window = resolve(since, until, last, self.end, timezone)

    @property
    def tables(self) -> tuple[str, ...]:
        """Every table that a trace of these may have: the built-in ones, and those that they define."""
        return (*own_tables.BUILT_IN, *self.own)

    def _own_tables(self) -> dict[str, own_tables.OwnTable]:
        """Those that the traces define, each with its empty view; not one that would hide what netrec's queries use."""
        taken = set(self.shared.names)
        found = {name: table for name, table in own_tables.find(self.folders).items() if name not in taken}
        for table in found.values():
            self.connection.execute(own_tables.empty_view(table))
        return found

    def _filter(self, text: str) -> Filter:
        from analyze.filters import Filter

        return Filter(self.connection, text, self.tables)

    def require(self, *tables: str) -> None:
        """Make the views of these tables; raises `MissingTableError` when no trace has recorded one of them.

        A table that was recorded while nothing happened is there, without rows.
        """
        for table in tables:
            if table in self.views:
                continue
            if table not in self.tables:
                raise self._missing(table)
            if table not in self.files:
                self._open(table)
            if not self.files[table] and not self.spools[table] and not self._recorded(table):
                raise self._missing(table)
            self._create_view(table)
            self.views.add(table)

    def has(self, table: str) -> bool:
        """Whether some trace has recorded this table (its view exists afterwards)."""
        try:
            self.require(table)
        except MissingTableError:
            return False
        return True

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None, columns: Sequence[Column] = (), name: str = ""
    ) -> Result:
        """Run a SELECT over the views; `$name` takes a value of `parameters`.

        `columns` gives units and meanings by name. A file that turns out damaged while it is read is left out, named in
        `skipped`, and the query runs again. Raises `QueryError` when the SQL is wrong.
        """
        self.asked.append(sql)
        table = f"result_{next(self._names)}"
        statement = f"create table {table} as {sandbox.check_select(self.connection, sql)}"
        self.execute(statement, parameters)
        known = {column.name: column for column in columns}
        actual = [Column(*item) for item in described(self.connection, table)]
        merged = [
            Column(item.name, item.type, known[item.name].unit, known[item.name].meaning)
            if item.name in known
            else item
            for item in actual
        ]
        return Result(self.connection, table, merged, name)

    def fold(self, sql: str, fresh: Callable[[], Into]) -> Into:
        """Give the rows of a SELECT to what `fresh` makes, batch by batch; they are never all in memory.

        When a file turns out damaged it is left out, and what `fresh` makes begins anew. Errors are those of `query`.
        """
        self.asked.append(sql)
        statement = sandbox.check_select(self.connection, sql)
        self.shared.provide(statement, self)
        engine.exchange_arrow()
        while True:
            into = fresh()
            try:
                with progress.shown(self.connection):
                    for batch in self.connection.sql(statement).to_arrow_reader(_BATCH_ROWS):
                        into.add(batch)
                return into
            except (duckdb.Error, OSError) as problem:  # Arrow passes errors on as its own, which are an OSError
                if not self._drop_damaged(problem):
                    raise self._explained(problem) from None

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> duckdb.DuckDBPyConnection:
        """Run a trusted statement; a file that turns out damaged is left out and the statement runs again."""
        self.shared.provide(statement, self)
        while True:
            try:
                with progress.shown(self.connection):
                    return self.connection.execute(statement, dict(parameters or {}))
            except duckdb.Error as problem:
                if not self._drop_damaged(problem):
                    raise self._explained(problem) from None

    def fetch(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows of a small SELECT as Python values (see `Result.rows`)."""
        return list(self.query(sql, parameters).rows())

    def time_column(self, table: str) -> str:
        """The column that a table's rows are ordered by."""
        return self.own[table].time_column if table in self.own else _TIME_COLUMN[table]

    def _start_column(self, table: str) -> str:
        return _START_COLUMN.get(table) or self.time_column(table)

    def _open(self, table: str) -> None:
        # Spools first: one that becomes a file meanwhile is then seen twice, never not at all.
        spools = [found for folder in self.folders for found in spool.find(folder, table)]
        good: list[files.DataFile] = []
        for folder in self.folders:
            opened, bad = files.open_all(folder, table, self.window.since, self.window.until)
            good += opened
            self.skipped += [one for one in bad if one not in self.skipped]
        self.files[table] = good
        finished = {
            (file.folder, file.name.host, file.name.capture, number) for file in good for number in file.name.numbers
        }
        self.spools[table] = [found for found in spools if found.identity not in finished and found.rows]

    def _recorded(self, table: str) -> bool:
        """Whether a capture that has no file of this table did record it: what was there all the time says so."""
        if "health" not in self.files:
            self._open("health")
        captures = [file.footer.file.capture for file in self.files["health"]]
        captures += [one.capture for one in self.spools["health"] if one.capture]
        return any(table in capture.tables for capture in captures)

    def _create_view(self, table: str) -> None:
        branches = [f"select * from {quoted(f'empty_{table}')}"]
        branches += [self._read(group, version) for version, group in self._groups(table)]
        if self.spools[table]:
            engine.exchange_arrow()
            self.connection.register(f"spool_{table}", spool.table(self.spools[table]))
            branches.append(f"select * from {quoted(f'spool_{table}')}")
        conditions = [self._overlap(table), self.filter.condition(table) if self.filter else ""]
        where = " and ".join(f"({condition})" for condition in conditions if condition)
        union = "\nunion all by name\n".join(branches)
        where = f"where {where}" if where else ""
        statement = f"create or replace temp view {quoted(table)} as select * from ({union}) {where}"
        while True:
            try:
                self.connection.execute(statement)
                return
            except duckdb.Error as problem:
                if not self._drop_damaged(problem, rebuild=False):
                    raise self._explained(problem) from None
                return self._create_view(table)

    def _groups(self, table: str) -> list[tuple[int, list[files.DataFile]]]:
        groups: dict[int, list[files.DataFile]] = {}
        for file in self.files[table]:
            groups.setdefault(int(file.footer.text("format_version")), []).append(file)
        return sorted(groups.items())

    @staticmethod
    def _read(group: list[files.DataFile], version: int) -> str:
        names = ", ".join(literal(file.path) for file in group)
        # By name where files differ in their columns; for large files always, because DuckDB then knows the extremes of
        # every column and sums faster, by a quarter. For small ones that costs more than it gains: every footer is
        # looked at whenever a view is bound.
        large = sum(file.footer.size for file in group) >= _LARGE_FILE * len(group)
        by_name = large or len({file.footer.columns for file in group}) > 1
        fix_ups = "".join(f", {expression} as {quoted(name)}" for name, expression in FIX_UPS.get(version, {}).items())
        replace = f"replace ({fix_ups[2:]})" if fix_ups else ""
        return (
            f"select * exclude (filename) {replace}, {_CAPTURE} as capture from read_parquet([{names}], "
            f"filename = true, hive_partitioning = false, union_by_name = {str(by_name).lower()})"
        )

    def _overlap(self, table: str) -> str:
        conditions = []
        if self.window.since:
            conditions.append(f"{quoted(self.time_column(table))} >= {_timestamp(self.window.since)}")
        if self.window.until:
            conditions.append(f"{quoted(self._start_column(table))} < {_timestamp(self.window.until)}")
        return " and ".join(conditions)

    def in_window(self, expression: str) -> str:
        """SQL that says whether a time lies in [since, until)."""
        conditions = []
        if self.window.since:
            conditions.append(f"{expression} >= {_timestamp(self.window.since)}")
        if self.window.until:
            conditions.append(f"{expression} < {_timestamp(self.window.until)}")
        return " and ".join(conditions) or "true"

    def _drop_damaged(self, problem: Exception, rebuild: bool = True) -> bool:
        """Leave out the files that cannot be read whole, and look again where files went (merged, or expired); False
        when there is none of either (the error is the query's)."""
        if not damage.is_about_files(problem):
            return False
        dropped = False
        for table, opened in self.files.items():
            if files.vanished(file.path for file in opened):
                dropped = True
                self._open(table)
                if rebuild:
                    self._create_view(table)
                continue
            bad = damage.find(self.connection, opened)
            if not bad:
                continue
            dropped = True
            self.skipped += bad
            paths = {skipped.path for skipped in bad}
            self.files[table] = [file for file in opened if file.path not in paths]
            if rebuild:
                self._create_view(table)
        return dropped

    def _explained(self, problem: Exception) -> NetrecError:
        from analyze import messages

        return messages.explain(problem, self)

    def end(self) -> datetime:
        """Time of the newest row of the traces, from the newest partitions only."""
        newest: datetime | None = None
        for table in files.tables_of(self.folders) or ["flows"]:
            if table not in self.tables:
                continue
            for folder in self.folders:
                candidates, _ = files.open_all(folder, table)
                moments = [self._newest(candidates, table)] if candidates else []
                moments += [one.newest(self.time_column(table)) for one in spool.find(folder, table)]
                newest = max([moment for moment in [*moments, newest] if moment], default=None)
        if newest is None:
            raise TraceError("the trace is empty: it has no row to count time from", "record traffic first")
        return newest

    def _newest(self, candidates: list[files.DataFile], table: str) -> datetime | None:
        last_hour = max(file.name.hour for file in candidates)
        group = [file for file in candidates if file.name.hour == last_hour]
        statement = f"select epoch_us(max({quoted(self.time_column(table))})) from ({self._read(group, 0)})"
        try:
            newest = first(self.connection, statement)[0]
        except duckdb.Error:
            if files.vanished(file.path for file in group):
                again, _ = files.open_all(group[0].folder, table)
                return self._newest(again, table) if again else None
            bad = {skipped.path for skipped in damage.find(self.connection, candidates)}
            rest = [file for file in candidates if file.path not in bad]
            return self._newest(rest, table) if bad and rest else None
        return moment(newest) if newest is not None else None

    def _missing(self, table: str) -> MissingTableError:
        skipped = [one for one in self.skipped if f"/{table}/" in one.path]
        if skipped:
            return MissingTableError(
                f"none of the trace's {table} files can be read ({skipped[0]})", "see netrec verify"
            )
        hint = RECORDED_BY.get(table, "" if table in self.tables else f"a --program whose table is {table}")
        in_window = " in this time window" if self.window else ""
        return MissingTableError(
            f"this trace has no {table} table{in_window}", f"record with {hint}" if hint else "see netrec inspect"
        )


def _timestamp(moment: datetime) -> str:
    return f"timestamptz '{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'"
