"""The recording loop with a source made for the test."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import metadata, tables
from netrec.trace.layout import new_capture_id
from recorder.pipeline import Pipeline, Plan, Watcher
from recorder.source import SourceHealth


class LateSource:
    """Takes a while until it records; nothing happens then."""

    started = 0.0

    def start(self) -> None:
        time.sleep(0.3)
        self.started = time.time()

    def poll(self) -> bool:
        return False

    def read(self) -> Iterable[tuple[str, Any]]:
        return []

    def health(self) -> SourceHealth:
        return SourceHealth()

    def stop(self) -> Iterable[tuple[str, Any]]:
        return []

    def close(self) -> None: ...


def test_the_recorded_time_begins_when_every_source_records(tmp_path: Path) -> None:
    source = LateSource()
    capture = metadata.CaptureMetadata("web-1", new_capture_id(datetime.now(UTC)), "late")
    Pipeline(Plan(tmp_path, {"late": source}, capture, duration=0.1), Watcher()).run()
    (path,) = tmp_path.rglob("health/**/*.parquet")
    file = pq.read_table(path)
    about = metadata.decode_file(file.schema.metadata)
    assert datetime.fromisoformat(about.opened).timestamp() >= source.started
    assert file["start_time"][0].as_py().timestamp() >= source.started - 1e-6


class AskedMeanwhile(LateSource):
    """Somebody asks for the files when it has just been read; a thing happens before that."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.asked = False

    def start(self) -> None: ...

    def read(self) -> Iterable[tuple[str, Any]]:
        rows, self.waiting = self.waiting, []
        if rows:
            columns = {name: pa.array(rows, pa.int64()) for name in ("flow_id", "start_time", "end_time")}
            yield "flows", tables.batch(tables.FLOWS, columns, len(rows))
        if not self.asked:
            self.asked = True
            self.waiting.append(7)
            os.kill(os.getpid(), signal.SIGHUP)


def test_files_that_are_asked_for_hold_what_happened_until_then(tmp_path: Path) -> None:
    capture = metadata.CaptureMetadata("web-1", new_capture_id(datetime.now(UTC)), "asked")
    Pipeline(Plan(tmp_path, {"asked": AskedMeanwhile()}, capture, duration=3.0), Watcher()).run()
    (path,) = tmp_path.rglob("flows/**/*.parquet")
    file = pq.read_table(path)
    assert file["flow_id"].to_pylist() == [7]
    assert metadata.decode_file(file.schema.metadata).closed == "hangup"
