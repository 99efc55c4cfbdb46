"""A Parquet file of the rows, with the query's name and its window in the file's metadata."""

from __future__ import annotations

from datetime import tzinfo
from typing import IO

from analyze.result import Result


def write(result: Result, stream: IO[bytes], zone: tzinfo | None, colour: bool) -> None:
    """Write the file (zstd)."""
    import pyarrow.parquet as pq

    table = result.arrow().replace_schema_metadata({"netrec.query": result.name})
    pq.write_table(table, stream, compression="zstd")
