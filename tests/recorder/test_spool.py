"""The spool: what was appended comes back, whatever happened to its tail."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from netrec.errors import TraceError
from netrec.trace import layout, metadata, tables
from recorder import spool
from recorder.sources.synthetic.flows import flow_batches

CAPTURE = metadata.CaptureMetadata("web-1", "20261122T203015Z4f2a91", "synthetic", settings={"active_timeout": 10.0})
OPENED = "2026-11-22T20:00:00.000000+00:00"


def batches(count: int, rows: int = 50) -> list[pa.RecordBatch]:
    start = datetime(2026, 11, 22, 20, tzinfo=UTC)
    return list(flow_batches(count * rows, start=start, duration=count, rows_per_batch=rows, long_lived=3))


def written(folder: Path, parts: list[pa.RecordBatch], close: bool = True) -> tuple[layout.SpoolFile, list[int]]:
    """A spool of these batches, and its size after each."""
    file = layout.SpoolFile(folder, "flows", 0)
    writer = spool.SpoolWriter(file, tables.FLOWS.schema, CAPTURE, OPENED)
    sizes = []
    for number, part in enumerate(parts):
        writer.append([part], number)
        sizes.append(file.path.stat().st_size)
    writer.close() if close else writer.abandon()
    return file, sizes


def contents(file: layout.SpoolFile) -> spool.SpoolContents:
    found = spool.read(file)
    assert found is not None
    return found


def test_batches_with_dictionaries_that_differ_come_back(tmp_path: Path) -> None:
    parts = batches(4)
    other = tables.batch(tables.FLOWS, {"process_name": pa.array(["x", None, "y"])}, 3)
    file, _ = written(tmp_path, [*parts, other])
    found = contents(file)
    back = list(found.batches())
    assert [one.to_pylist() for one in back] == [one.to_pylist() for one in [*parts, other]]
    assert (found.capture, found.opened) == (CAPTURE, OPENED)
    assert (found.torn_bytes, found.events_lost) == (0, 4)


def test_every_batch_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    file = layout.SpoolFile(tmp_path, "flows", 0)
    writer = spool.SpoolWriter(file, tables.FLOWS.schema, CAPTURE, OPENED)
    for number, part in enumerate(batches(3), start=1):
        writer.append([part], 0)
        assert len(list(contents(file).batches())) == number


def test_a_tail_torn_at_any_byte_costs_only_the_batches_it_tore(tmp_path: Path) -> None:
    file, sizes = written(tmp_path, batches(3, rows=5), close=False)
    whole = file.path.read_bytes()
    assert len(whole) == sizes[-1]
    for size in (*range(sizes[0], sizes[1], 23), *range(len(whole) - 1500, len(whole)), *sizes):
        file.path.write_bytes(whole[:size])
        found = contents(file)
        kept = len(list(found.batches()))
        assert kept == sum(size >= one for one in sizes), size
        assert found.torn_bytes == size - sizes[kept - 1], size


def test_a_file_torn_within_its_schema_holds_nothing(tmp_path: Path) -> None:
    file, sizes = written(tmp_path, batches(1, rows=5))
    whole = file.path.read_bytes()
    for size in range(0, sizes[0], 97):
        file.path.write_bytes(whole[:size])
        found = spool.read(file)
        assert found is None or not list(found.batches())


def test_zeros_after_a_power_cut_end_the_stream(tmp_path: Path) -> None:
    file, sizes = written(tmp_path, batches(2, rows=5), close=False)
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: sizes[0]] + bytes(sizes[1] - sizes[0]))
    found = contents(file)
    assert len(list(found.batches())) == 1
    assert found.torn_bytes == sizes[1] - sizes[0]


def test_what_is_not_a_spool_is_refused_not_emptied(tmp_path: Path) -> None:
    file = layout.SpoolFile(tmp_path, "flows", 0)
    file.path.write_bytes(os.urandom(300_000))
    with pytest.raises(TraceError, match="not an Arrow stream"):
        spool.read(file)


def test_a_locked_folder_is_nobody_elses(tmp_path: Path) -> None:
    held = spool.SpoolFolder.create(tmp_path, "web-1", "c1")
    assert spool.SpoolFolder.acquire(held.path) is None
    held.close()
    assert not held.path.exists()
    assert spool.SpoolFolder.acquire(held.path) is None


def test_a_folder_with_a_spool_in_it_stays(tmp_path: Path) -> None:
    held = spool.SpoolFolder.create(tmp_path, "web-1", "c1")
    written(held.path, batches(1))
    held.close()
    again = spool.SpoolFolder.acquire(held.path)
    assert again is not None
    assert [file.sequence for file in again.files()] == [0]
    again.close()


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    for umask in (0, 0o077):
        previous = os.umask(umask)
        try:
            folder = spool.SpoolFolder.create(tmp_path / f"{umask:o}" / "trace", "web-1", "c1")
            folder.reserve()
            file, _ = written(folder.path, batches(1))
        finally:
            os.umask(previous)
        for path in (file.path, folder.path / layout.LOCK_FILE, folder.path / spool.RESERVE_FILE):
            assert path.stat().st_mode & 0o777 == layout.FILE_MODE
        for path in (folder.path, folder.path.parent, folder.path.parent.parent):
            assert path.stat().st_mode & 0o777 == layout.FOLDER_MODE


def test_a_folder_removed_under_the_recorder_is_made_again(tmp_path: Path) -> None:
    folder = spool.SpoolFolder.create(tmp_path, "web-1", "c1")
    (folder.path / layout.LOCK_FILE).unlink()
    folder.path.rmdir()
    folder.renew()
    assert spool.SpoolFolder.acquire(folder.path) is None
    folder.close()
