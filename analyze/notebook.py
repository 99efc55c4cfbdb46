"""Traces in Python: `netrec.open("DIR")`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyze import catalogue, context, engine, run, sandbox, shared
from analyze.result import Context, Result
from analyze.scan import Scan
from analyze.window import zone

if TYPE_CHECKING:
    import duckdb
    import polars
    import pyarrow


class Trace:
    """One or more traces, opened for reading.

    `since`, `until` and `last` are texts as on the command line (`2026-11-22T20:03`, `14:03`, `-15m`) or, for the first
    two, datetimes with a time zone; `filter` is an SQL expression over the fields. Times without a zone are read in
    `timezone` (default UTC). Raises `netrec.errors.TraceError` when a folder is no trace, `UsageError` or `QueryError`
    when an option cannot be used.

        trace = netrec.open("trace", last="15m")
        trace.query("top-talkers", by="service")         # an Arrow table
        trace.sql("select * from flow where rtt_us > 1e5").pl()
        trace.polars("flows").group_by("process_name").len().collect()
    """

    def __init__(
        self,
        *folders: str | Path,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        last: str | None = None,
        filter: str = "",
        timezone: str = "UTC",
        queries: tuple[str | Path, ...] = (),
    ) -> None:
        engine.exchange_arrow()
        self._queries = catalogue.user_folders([Path(folder) for folder in queries])
        self._scan = Scan(
            folders or ["trace"],
            since=_text(since),
            until=_text(until),
            last=last,
            filter=filter,
            timezone=zone(timezone),
            shared_folders=self._queries,
        )

    @property
    def tables(self) -> list[str]:
        """Names of the tables that the traces have."""
        return [name for name in self._scan.tables if self._scan.has(name)]

    @property
    def flows(self) -> duckdb.DuckDBPyRelation:
        """The flow rows as recorded, the second sighting of local traffic included (`duplicate`)."""
        return self.table("flows")

    @property
    def events(self) -> duckdb.DuckDBPyRelation:
        """The events; raises `MissingTableError` when none were recorded."""
        return self.table("events")

    @property
    def host(self) -> duckdb.DuckDBPyRelation:
        """The gauges of the host against their limits; raises `MissingTableError` when none were recorded."""
        return self.table("host")

    @property
    def health(self) -> duckdb.DuckDBPyRelation:
        """The recorder about itself."""
        return self.table("health")

    def table(self, name: str) -> duckdb.DuckDBPyRelation:
        """A table or a view over flows (`flow`: every byte counted once) as a DuckDB relation."""
        self._scan.require(name if name in self._scan.tables else "flows")
        self._scan.shared.provide(name, self._scan)
        return self._scan.connection.table(name)

    def sql(self, text: str) -> duckdb.DuckDBPyRelation:
        """One SELECT over the tables and views, as a DuckDB relation (`.pl()`, `.df()`, `.arrow()`, `.show()`).

        Raises `QueryError` when it is not a SELECT. What runs can read the trace and nothing else.
        """
        select = sandbox.check_select(self._scan.connection, text)
        self.tables  # noqa: B018 - opens every table that there is
        self._scan.shared.provide(select, self._scan)
        return self._scan.connection.sql(select)

    def polars(self, name: str = "flows") -> polars.LazyFrame:
        """A table or view as a Polars LazyFrame."""
        import polars

        return polars.from_arrow(self.table(name).to_arrow_table()).lazy()  # type: ignore[union-attr]

    def query(self, name: str, **parameters: Any) -> pyarrow.Table:
        """Run a query of the catalogue, e.g. `query("top-talkers", by="service", n=5)`: an Arrow table.

        Raises `QueryError` for an unknown query, `UsageError` for an unusable parameter, `MissingTableError` when the
        traces lack a table.
        """
        return self.result(name, **parameters).arrow()

    def result(self, name: str, **parameters: Any) -> Result:
        """As `query`, with the units of the columns and the context (window, losses, gaps) of the answer."""
        query = catalogue.load(name, self._queries)
        result = run.run(query, self._scan, parameters, shared.dimensions(self._queries))
        result.context = self.context
        return result

    @property
    def context(self) -> Context:
        """What answers rest on: the window recorded, losses, gaps, and the files that were left out."""
        return context.of(self._scan)

    def __repr__(self) -> str:
        return f"<netrec trace {', '.join(str(folder) for folder in self._scan.folders)}>"


def _text(moment: str | datetime | None) -> str | None:
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    return moment
