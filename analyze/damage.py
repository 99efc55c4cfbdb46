"""Which of the files that DuckDB stumbled over cannot be read whole."""

from __future__ import annotations

from analyze.engine import duckdb
from analyze.files import DataFile, Skipped
from analyze.result import literal

# An error of one of these kinds can only be the query's own.
_QUERY_ERRORS = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException, duckdb.SyntaxException)


def is_about_files(problem: Exception) -> bool:
    """Whether reading a damaged file can have caused this error."""
    return not isinstance(problem, _QUERY_ERRORS)


def find(connection: duckdb.DuckDBPyConnection, files: list[DataFile]) -> list[Skipped]:
    """Those of the files that cannot be read whole, each with the reason."""
    return [Skipped(file.path, reason) for file in files if (reason := reason_unreadable(connection, file.path))]


def reason_unreadable(connection: duckdb.DuckDBPyConnection, path: str) -> str:
    """Why a file cannot be read whole, in words; empty when it can."""
    try:
        # One number that every value of the file goes into: times with a zone as Python objects would need pytz.
        connection.execute(f"select bit_xor(hash(line)) from read_parquet({literal(path)}) line").fetchall()
    except duckdb.Error as problem:
        return f"damaged: it cannot be read whole ({type(problem).__name__.removesuffix('Exception')} error)"
    return ""
