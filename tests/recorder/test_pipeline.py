"""The recording loop with a source made for the test."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from netrec.trace import metadata
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
