"""Leaves out of a trace what other things on the recording host did meanwhile.

A recorder sees every socket of its host. Of a finished trace these rows stay, as they were recorded: flows and events
between addresses of the workload's own networks, and the gauges of its namespace, not those of the whole machine.
The footers say how many rows are left, and everything else as before.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from netrec.trace import layout, metadata, tables
from netrec.trace.writer import FileWriter

WHOLE_MACHINE = ("cpu", "softnet", "file_descriptors", "tcp_memory", "udp_memory")


def keep_own_rows(trace: Path, number: int) -> None:
    """Keep the rows of 10.<number>.0.0/16 and fd<number>::/16."""
    for path in sorted(trace.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            description = metadata.decode_file(file.metadata.metadata)
            rows = file.read()
        if description.table == "health":
            continue
        if description.table == "host":
            _rewrite(trace, path, rows.filter(pc.invert(_begins(rows["resource"], WHOLE_MACHINE))), description)
        else:
            networks = (f"10.{number}.", f"fd{number:02d}:")
            own = [_begins(rows[column], networks) for column in ("client_address", "server_address")]
            _rewrite(trace, path, rows.filter(pc.and_(*own)), description)


def lost(trace: Path) -> int:
    """How many events the recorder lost, of whatever was on the host."""
    files = (trace / "health").rglob("*.parquet")
    return sum(int(pc.sum(pq.read_table(path, columns=["events_lost"])["events_lost"]).as_py() or 0) for path in files)


def _begins(column: pa.ChunkedArray, prefixes: tuple[str, ...]) -> pa.ChunkedArray:
    texts = column.cast(pa.string())
    found = pc.starts_with(texts, prefixes[0])
    for prefix in prefixes[1:]:
        found = pc.or_(found, pc.starts_with(texts, prefix))
    return found


def _rewrite(trace: Path, path: Path, rows: pa.Table, description: metadata.FileMetadata) -> None:
    file = layout.TraceFile.parse(path.relative_to(trace))
    assert file is not None
    writer = FileWriter(trace, file, path.parent)
    for batch in rows.cast(tables.table(description.table).schema).to_batches():
        writer.write(batch)
    writer.finish(dataclasses.replace(description, rows=rows.num_rows))
