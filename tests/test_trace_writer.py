"""Finished Parquet files: the rows of the batches, sorted, described, whole or not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.trace import layout, metadata, tables
from netrec.trace.writer import FileWriter
from recorder.sources.synthetic.flows import flow_batches
from recorder.sources.synthetic.history import write_history

START = datetime(2026, 11, 22, 20, tzinfo=UTC)
CAPTURE = metadata.CaptureMetadata("web-1", "c1", "synthetic")
FILE = layout.TraceFile("flows", START, "web-1", "c1", 0)


def finish(writer: FileWriter) -> Path:
    described = metadata.FileMetadata(CAPTURE, "flows", 0, writer.rows, 7, START.isoformat(), "end", START.isoformat())
    return writer.finish(described).path


def shuffled(count: int) -> list[pa.RecordBatch]:
    """Batches out of order, with nulls, booleans and dictionaries that differ."""
    batches = list(flow_batches(count, start=START, duration=60, rows_per_batch=max(1, count // 7), long_lived=2))
    order = np.random.default_rng(3)
    return [batch.take(pa.array(order.permutation(batch.num_rows))) for batch in reversed(batches)]


@pytest.mark.parametrize("rows_per_group", [100, 1000, 100_000])
def test_the_rows_are_those_of_the_batches_sorted_by_time(tmp_path: Path, rows_per_group: int) -> None:
    batches = shuffled(3000)
    writer = FileWriter(tmp_path, FILE, tmp_path, rows_per_group)
    for batch in batches:
        writer.write(batch)
    path = finish(writer)
    read = pq.read_table(path, partitioning=None)
    assert read.schema.names == tables.FLOWS.schema.names
    given = pa.Table.from_batches(batches).unify_dictionaries()

    def plain(table: pa.Table) -> list[dict[str, object]]:
        return sorted(table.to_pylist(), key=lambda row: (row["end_time"], row["flow_id"]))

    assert plain(read) == plain(given)
    footer = pq.ParquetFile(path)
    for group in range(footer.num_row_groups):
        times = footer.read_row_group(group, columns=["end_time"]).column(0).to_pylist()
        assert times == sorted(times)
        assert footer.metadata.row_group(group).sorting_columns[0].column_index == 1
        assert footer.metadata.row_group(group).column(1).statistics.has_min_max
        assert footer.metadata.row_group(group).column(1).has_column_index
    assert metadata.decode_file(footer.metadata.metadata).events_lost == 7


def test_other_engines_read_it(tmp_path: Path) -> None:
    write_history(tmp_path, 5000, start=START, duration=7200)
    pattern = f"{tmp_path}/flows/**/*.parquet"
    total = duckdb.sql(f"select count(*), sum(client_bytes) from '{pattern}'").fetchall()[0]
    frame = polars.scan_parquet(pattern).select(polars.len(), polars.col("client_bytes").sum()).collect()
    assert total == frame.row(0)
    assert total[0] == 5000


def test_nothing_appears_before_it_is_finished(tmp_path: Path) -> None:
    writer = FileWriter(tmp_path, FILE, tmp_path, 100)
    for batch in shuffled(500):
        writer.write(batch)
    assert not (tmp_path / FILE.relative).exists()
    writer.discard()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_history_is_one_file_per_hour_with_the_health_of_a_recorder(tmp_path: Path) -> None:
    files = write_history(tmp_path, 3000, start=START.replace(minute=30), duration=7200, long_lived=1)
    found = [layout.TraceFile.parse(file.path.relative_to(tmp_path)) for file in files]
    assert [(one.table, one.hour.hour, one.sequence) for one in found if one] == [
        (table, 20 + number, number) for table in ("flows", "health") for number in range(3)
    ]
    closed = [metadata.decode_file(pq.read_metadata(file.path).metadata).closed for file in files]
    assert closed == ["interval", "interval", "end"] * 2
    assert not (tmp_path / layout.SPOOL_FOLDER).exists()


def test_the_same_seed_gives_the_same_flows() -> None:
    one, two = (list(flow_batches(1000, seed=5, start=START, duration=10)) for _ in range(2))
    assert one == two
    assert one != list(flow_batches(1000, seed=6, start=START, duration=10))


def test_a_flipped_bit_of_a_page_is_found(tmp_path: Path) -> None:
    path = write_history(tmp_path, 2000, start=START, duration=60)[0].path
    whole = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    for name in ("start_time", "flow_id", "client_address", "client_bytes"):
        chunk = group.column(group_names(group).index(name))
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        for back in (1, 7, 20):
            damaged = bytearray(whole)
            damaged[start + chunk.total_compressed_size - back] ^= 1  # the last bytes of a chunk are a page's
            path.write_bytes(damaged)
            with pytest.raises(OSError, match="CRC"):
                pq.ParquetFile(path, page_checksum_verification=True).read(columns=[name])


def group_names(group: pq.RowGroupMetaData) -> list[str]:
    return [group.column(index).path_in_schema for index in range(group.num_columns)]
