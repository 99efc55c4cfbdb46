"""Rotation by the wall clock, retention, and the room that stays free."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from netrec.trace import layout, metadata
from recorder import spool
from recorder.retention import DEFAULT_FREE, MinimumFree, Retention
from recorder.rotate import LARGE_ROWS, OpenSpools, next_rotation
from recorder.sources.synthetic.flows import FlowGenerator
from recorder.spool import SpoolFolder

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "interval", "boundary"),
    [
        (0.0, 300, 300.0),
        (299.999, 300, 300.0),
        (300.0, 300, 600.0),
        (3599.0, 300, 3600.0),
        (10.0, 420, 420.0),
        (3500.0, 420, 3600.0),  # 7 minutes do not divide the hour: the last interval is cut short
        (3600.0, 3600, 7200.0),
        (1.5, 1, 2.0),
    ],
)
def test_boundaries(now: float, interval: float, boundary: float) -> None:
    assert next_rotation(now, interval) == boundary


@given(some.floats(0, 4e9), some.floats(1, 3600))
def test_a_boundary_is_ahead_and_never_beyond_the_hour(now: float, interval: float) -> None:
    boundary = next_rotation(now, interval)
    assert now < boundary <= now + interval + 1e-3
    assert boundary <= (now // 3600 + 1) * 3600


def test_numbers_count_per_table_and_empty_intervals_use_none(tmp_path: Path) -> None:
    folder = SpoolFolder.create(tmp_path, "web-1", "c1")
    spools = OpenSpools(folder, metadata.CaptureMetadata("web-1", "c1", "synthetic"), 0.0)
    generator = FlowGenerator()
    numbers = []
    for interval in range(4):
        if interval != 2:
            spools.append("flows", [generator.rows(0, 1000, 5), generator.rows(1000, 2000, 5)], 0)
        closed = spools.rotate("interval", float(interval), 0)
        numbers.append([one.file.sequence for one in closed])
    assert numbers == [[0], [1], [], [2]]
    folder.close()


def test_batches_are_appended_in_order_small_ones_as_one(tmp_path: Path) -> None:
    folder = SpoolFolder.create(tmp_path, "web-1", "c1")
    spools = OpenSpools(folder, metadata.CaptureMetadata("web-1", "c1", "synthetic"), 0.0)
    generator = FlowGenerator()
    sizes = [3, 5, LARGE_ROWS + 1, 0, 7, LARGE_ROWS + 2]
    given = [generator.rows(0, 1000, size) for size in sizes]
    assert spools.append("flows", given, 0) == sum(sizes)
    (closed,) = spools.rotate("interval", 1.0, 0)
    contents = spool.read(closed.file)
    assert contents is not None
    found = list(contents.batches())
    assert [one.num_rows for one in found] == [8, LARGE_ROWS + 1, 7, LARGE_ROWS + 2]
    assert pa.Table.from_batches(found).to_pylist() == pa.Table.from_batches(given).to_pylist()
    folder.close()


def make(trace: Path, hour: datetime, host: str = "web-1", sequence: int = 0, size: int = 100) -> Path:
    path = trace / layout.TraceFile("flows", hour, host, "c1", sequence).relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def test_the_oldest_go_by_age_and_empty_folders_with_them(tmp_path: Path) -> None:
    paths = [make(tmp_path, NOON - timedelta(hours=hours)) for hours in (30, 10, 2, 0)]
    gone = Retention(age=9 * 3600).apply(tmp_path, "web-1", NOON + timedelta(minutes=5))
    assert gone == paths[:2]
    assert not paths[0].parent.parent.exists()
    assert paths[2].exists()


def test_a_file_is_as_old_as_the_end_of_its_hour(tmp_path: Path) -> None:
    path = make(tmp_path, NOON)
    retention = Retention(age=3600)
    assert retention.apply(tmp_path, "web-1", NOON + timedelta(minutes=119)) == []
    assert retention.apply(tmp_path, "web-1", NOON + timedelta(minutes=120)) == [path]


def test_the_oldest_go_by_size(tmp_path: Path) -> None:
    paths = [make(tmp_path, NOON, sequence=number) for number in range(5)]
    assert Retention(size=250).apply(tmp_path, "web-1", NOON) == paths[:3]


def test_what_is_not_this_hosts_finished_file_stays(tmp_path: Path) -> None:
    other = make(tmp_path, NOON, host="web-2")
    foreign = other.parent / "notes.parquet"
    foreign.write_text("mine")
    spool = tmp_path / layout.SPOOL_FOLDER / "web-1-c1" / "flows-000000.arrows"
    spool.parent.mkdir(parents=True)
    spool.write_text("x")
    own = make(tmp_path, NOON)
    assert Retention(age=1, size=1).apply(tmp_path, "web-1", NOON + timedelta(days=9)) == [own]
    assert other.exists() and foreign.exists() and spool.exists()


@pytest.mark.parametrize(("text", "expected"), [("500MB", 500_000_000), ("5%", 1_000_000), ("0", 0)])
def test_minimum_free(text: str, expected: int) -> None:
    assert MinimumFree.parse(text).of(20_000_000) == expected


def test_minimum_free_by_default_suits_small_and_large_disks() -> None:
    assert DEFAULT_FREE.of(20_000_000) == 1_000_000
    assert DEFAULT_FREE.of(4 * 10**12) == 1_000_000_000


@pytest.mark.parametrize("text", ["x%", "-1%", "100%", "lots", "-5MB"])
def test_minimum_free_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not"):
        MinimumFree.parse(text)
