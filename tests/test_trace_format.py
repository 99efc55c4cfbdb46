"""The trace format: names, schemas and footers survive a round trip."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from netrec.errors import TraceError
from netrec.trace import layout, metadata, tables

CAPTURE = metadata.CaptureMetadata(
    "web-1", "20261122T203015Z4f2a91", "ebpf", ["10.0.0.1"], settings={"active_timeout": 10.0}
)


def test_file_name_round_trip_with_dashes_in_the_host() -> None:
    file = layout.TraceFile("flows", datetime(2026, 11, 22, 20, tzinfo=UTC), "web-1.example", CAPTURE.capture, 7)
    assert file.relative == Path(f"flows/date=2026-11-22/hour=20/web-1.example-{CAPTURE.capture}-000007.parquet")
    assert layout.TraceFile.parse(file.relative) == file


@pytest.mark.parametrize("path", ["x.parquet", "flows/date=2026-13-40/hour=99/a-b-000001.parquet", "flows/.tmp"])
def test_foreign_names_are_not_of_the_layout(path: str) -> None:
    assert layout.TraceFile.parse(path) is None


def test_capture_ids_sort_by_time_and_hold_no_dash() -> None:
    ids = [layout.new_capture_id(datetime(2026, 1, 1, 0, 0, second, tzinfo=UTC)) for second in range(5)]
    assert ids == sorted(ids)
    assert not any("-" in one for one in ids)


def test_footer_round_trip() -> None:
    file = metadata.FileMetadata(CAPTURE, "flows", 3, 99, 1, "a", "interval", "b")
    assert metadata.decode_file(metadata.encode(file)) == file
    assert metadata.decode_capture(metadata.encode(CAPTURE)) == CAPTURE


@pytest.mark.parametrize("raw", [None, {}, {b"pandas": b"{}"}, {b"netrec.format_version": b"x"}])
def test_a_foreign_footer_is_named(raw: dict[bytes, bytes] | None) -> None:
    with pytest.raises(TraceError, match="not a netrec file"):
        metadata.decode_file(raw)


def test_a_future_version_is_named() -> None:
    raw = metadata.encode(CAPTURE) | {b"netrec.format_version": b"99"}
    with pytest.raises(TraceError, match="format 99"):
        metadata.decode_capture(raw)


def test_a_batch_fills_what_the_source_does_not_know_with_null() -> None:
    batch = tables.batch(tables.FLOWS, {"client_bytes": pa.array([1, 2]), "host": pa.array(["a", "a"])}, 2)
    assert batch.schema == tables.FLOWS.schema
    assert batch.column("server_bytes").null_count == 2
    assert batch.column("host").to_pylist() == ["a", "a"]


def test_a_misspelt_column_is_refused() -> None:
    with pytest.raises(KeyError, match="clientbytes"):
        tables.batch(tables.FLOWS, {"clientbytes": pa.array([1])}, 1)


def test_types_are_those_that_every_engine_reads() -> None:
    allowed = {pa.int32(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us", tz="UTC")}
    for table in tables.TABLES.values():
        names = [field.name for field in table.fields]
        assert len(names) == len(set(names))
        assert table.time_column in names
        for field in table.fields:
            assert field.type in allowed or field.type == pa.dictionary(pa.int32(), pa.string())
            assert field.meaning
