"""DuckDB's errors -> one sentence with the next step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from analyze.engine import duckdb
from netrec.errors import MissingTableError, NetrecError, QueryError, TraceError

if TYPE_CHECKING:
    from analyze.scan import Scan

_UNKNOWN_COLUMN = re.compile(r'column "?([^" ]+)"? (?:was )?not found|does not have a column named "([^"]+)"', re.I)
_UNKNOWN_TABLE = re.compile(r"Table with name ([^ ]+) does not exist", re.I)


def first_sentence(problem: BaseException) -> str:
    """The first line of an error, without the name of its kind."""
    line = str(problem).strip().splitlines()[0] if str(problem).strip() else type(problem).__name__
    return re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", line).strip().rstrip(".!")


def explain(problem: Exception, scan: Scan) -> NetrecError:
    """The error to show for a query that failed; names the nearest column or table for one that is unknown."""
    sentence = first_sentence(problem)
    if match := _UNKNOWN_TABLE.search(str(problem)):
        return _unknown_table(match[1].strip('"'), scan)
    if match := _UNKNOWN_COLUMN.search(str(problem)):
        return _unknown_column(match[1] or match[2], scan)
    if isinstance(problem, duckdb.PermissionException):
        return QueryError(f"{sentence}; SQL can read the trace and nothing else", f"query {', '.join(scan.tables)}")
    if isinstance(problem, duckdb.OutOfMemoryException):
        return QueryError(
            f"the query needs more memory than it may use ({sentence})", "narrow it with --since or --filter"
        )
    if isinstance(problem, duckdb.IOException):
        return TraceError(sentence, "check the trace with netrec verify")
    return QueryError(sentence, "check the SQL")


def nearest(name: str, known: list[str]) -> str:
    """`did you mean 'x'?`, or the first of the known names when none is near."""
    import difflib

    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _unknown_table(name: str, scan: Scan) -> NetrecError:
    if name in scan.tables:
        try:
            scan.require(name)
        except MissingTableError as missing:
            return missing
    return QueryError(f"there is no table {name!r}", nearest(name, [*scan.tables, *scan.shared.names]))


def _unknown_column(name: str, scan: Scan) -> NetrecError:
    rows = scan.connection.execute(
        "select distinct column_name from duckdb_columns() where not internal order by 1"
    ).fetchall()
    return QueryError(f"there is no column {name!r}", nearest(name, [row[0] for row in rows]))
