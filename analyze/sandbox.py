"""A DuckDB connection that can read the trace and nothing else.

No file outside the trace folders, no network, no extension, no environment, no change of these settings; what SQL a
user may run on it is limited to a single SELECT, which cannot write.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from pathlib import Path

import queries
from analyze.engine import duckdb
from netrec.errors import QueryError

# The tables without rows, which give every column of the format its type.
EMPTY_TABLES = Path(queries.__file__).parent / "_shared" / "empty_tables.sql"
_PLAIN = re.compile(r"(select|with|from|values)\b", re.IGNORECASE)


class _Opening(threading.Thread):
    """A database that is being opened."""

    connection: duckdb.DuckDBPyConnection | None = None

    def run(self) -> None:
        with contextlib.suppress(duckdb.Error):  # `connect` tries again and says why
            self.connection = _open()


_begun: list[_Opening] = []


def begin() -> None:
    """Open the database of the next `connect` now, in a thread: it takes as long as loading the rest of the program."""
    if not _begun:
        _begun.append(_Opening())
        _begun[0].start()


def connect(folders: list[Path]) -> duckdb.DuckDBPyConnection:
    """An in-memory database whose file access is limited to `folders`, with the empty tables; sessions run in UTC."""
    from analyze.result import literal  # `begin` comes before what it needs

    connection = _taken() or _open()
    allowed = ", ".join(literal(f"{folder}/") for folder in folders)
    for setting in (
        f"allowed_directories = [{allowed}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")
    return connection


def _taken() -> duckdb.DuckDBPyConnection | None:
    if not _begun:
        return None
    opening = _begun.pop()
    opening.join()
    return opening.connection


def _open() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": str(_spill_folder()),
            "memory_limit": f"{_memory_limit() // 2**20}MiB",
        }
    )
    for setting in (
        "timezone = 'UTC'",
        "parquet_metadata_cache = true",
        "enable_progress_bar = true",  # analyze.progress asks for it
        "enable_progress_bar_print = false",
    ):
        connection.execute(f"set {setting}")
    connection.execute(EMPTY_TABLES.read_text())
    return connection


def spilled() -> bool:
    """Whether this process has files of intermediate results on disk: DuckDB removes them when it is closed."""
    return _spill_folder().exists()


def _spill_folder() -> Path:
    return Path(tempfile.gettempdir(), f"netrec-{os.getuid()}-{os.getpid()}")


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The one SELECT (or DESCRIBE, SUMMARIZE) of a user's text; raises `QueryError` for anything else."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as problem:
        from analyze.messages import first_sentence

        raise QueryError(first_sentence(problem), "check the SQL near there") from None
    if len(statements) != 1:
        number = "no statement" if not statements else f"{len(statements)} statements"
        raise QueryError(f"the SQL holds {number}", "write exactly one SELECT")
    kind = statements[0].type.name
    if kind != "SELECT":
        raise QueryError(f"{kind} statements are not allowed: a trace is read-only", "write a SELECT")
    text = str(statements[0].query).strip().rstrip(";")
    # DESCRIBE and SUMMARIZE are SELECTs to DuckDB, but cannot fill a table as they are; a comment may end the text.
    return text + "\n" if _PLAIN.match(text) else f"select * from (\n{text}\n)"


def _memory_limit() -> int:
    """A quarter of the machine's memory, at least 1 GiB: analysis may run beside what it analyses."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(2**30, total // 4)
