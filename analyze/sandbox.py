"""A DuckDB connection that can read the trace and nothing else.

No file outside the trace folders, no network, no extension, no environment, no change of these settings; what SQL a
user may run on it is limited to a single SELECT, which cannot write.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from analyze.engine import duckdb
from analyze.result import literal
from netrec.errors import QueryError

_PLAIN = re.compile(r"(select|with|from|values)\b", re.IGNORECASE)


def connect(folders: list[Path]) -> duckdb.DuckDBPyConnection:
    """An in-memory database whose file access is limited to `folders`; sessions run in UTC."""
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": str(Path(tempfile.gettempdir(), f"netrec-{os.getuid()}-{os.getpid()}")),
            "memory_limit": f"{_memory_limit() // 2**20}MiB",
        }
    )
    allowed = ", ".join(literal(f"{folder}/") for folder in folders)
    for setting in (
        "timezone = 'UTC'",
        f"allowed_directories = [{allowed}]",
        "parquet_metadata_cache = true",
        "enable_progress_bar = true",  # analyze.progress asks for it
        "enable_progress_bar_print = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"set {setting}")
    return connection


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
