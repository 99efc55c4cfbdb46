"""Leaves out of a trace what other things on the recording host did meanwhile.

A recorder sees every socket of its host. Of a finished trace these rows stay, as they were recorded: flows, events and
rows of users' programs between addresses of the workload's own networks, those that tell a process and no address if it
is one of the workload's, and the gauges of its namespace, not those of the whole machine.
The footers say how many rows are left, and everything else as before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from netrec.trace import definition, layout, metadata
from netrec.trace.writer import FileWriter

ENDS = (("client_address", "server_address"), ("local_address", "remote_address"))
WHOLE_MACHINE = ("cpu", "softnet", "file_descriptors", "tcp_memory", "udp_memory")


def keep_own_rows(trace: Path, number: int, processes: Collection[int]) -> None:
    """Keep the rows of 10.<number>.0.0/16 and fd<number>::/16, and of these processes."""
    for path in sorted(trace.rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            description = metadata.decode_file(file.metadata.metadata)
            rows = file.read()
        if description.table == "health":
            continue
        ends = next((pair for pair in ENDS if set(pair) <= set(rows.column_names)), None)
        if description.table == "host":
            own = pc.invert(_begins(rows["resource"], WHOLE_MACHINE))
        elif ends:
            networks = (f"10.{number}.", f"fd{number:02d}:")
            own = pc.and_(*(_begins(rows[column], networks) for column in ends))
        else:
            own = pc.is_in(rows["process_pid"], pa.array(processes, rows["process_pid"].type))
        _rewrite(trace, path, rows.filter(own), description)


def lost(trace: Path) -> int:
    """How many events the recorder lost while it recorded, of whatever was on the host."""
    rows = [pq.read_table(path, columns=["kind", "events_lost"]) for path in (trace / "health").rglob("*.parquet")]
    table = pa.concat_tables(rows)
    regular = table.filter(pc.not_equal(table["kind"].cast(pa.string()), "gap"))
    return int(pc.sum(regular["events_lost"]).as_py() or 0)


def _begins(column: pa.ChunkedArray, prefixes: tuple[str, ...]) -> pa.ChunkedArray:
    texts = column.cast(pa.string())
    found = pc.starts_with(texts, prefixes[0])
    for prefix in prefixes[1:]:
        found = pc.or_(found, pc.starts_with(texts, prefix))
    return found


def _rewrite(trace: Path, path: Path, rows: pa.Table, description: metadata.FileMetadata) -> None:
    file = layout.TraceFile.parse(path.relative_to(trace))
    assert file is not None
    table = definition.table_of(description.table, description.capture.definitions)
    writer = FileWriter(trace, file, path.parent, table=table)
    for batch in rows.cast(table.schema).to_batches():
        writer.write(batch)
    writer.finish(dataclasses.replace(description, rows=rows.num_rows))
