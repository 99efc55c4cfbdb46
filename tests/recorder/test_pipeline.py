"""The recording loop with a source made for the test."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.errors import CannotRecordError
from netrec.trace import metadata, tables
from netrec.trace.layout import new_capture_id
from recorder.pipeline import Pipeline, Plan, Watcher
from recorder.source import Effort, SourceHealth


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


class Patient(LateSource):
    """Wants to be polled only when its pipe says so; says it `times` times, a moment apart."""

    def __init__(self, times: int = 0) -> None:
        self.ends, self.polls, self.reads, self._times = os.pipe(), 0, 0, times

    def start(self) -> None: ...

    def patience(self) -> float:
        return math.inf

    def wakes(self) -> tuple[int, ...]:
        return (self.ends[0],)

    def poll(self) -> bool:
        self.polls += 1
        if self._times:
            self._times -= 1
            os.write(self.ends[1], b"!")
        return False

    def read(self) -> Iterable[tuple[str, Any]]:
        self.reads += 1
        return []

    def close(self) -> None:
        for end in self.ends:
            os.close(end)


def record(folder: Path, source: Any, duration: float, read_seconds: float = 1.0) -> None:
    capture = metadata.CaptureMetadata("web-1", new_capture_id(datetime.now(UTC)), "patient")
    effort = Effort(read_seconds=read_seconds)
    Pipeline(Plan(folder, {"patient": source}, capture, duration=duration, effort=effort), Watcher()).run()


def test_a_patient_source_is_polled_for_its_readings_only(tmp_path: Path) -> None:
    source = Patient()
    record(tmp_path, source, 2.5)
    # At the start, at every reading, and at the end; a reading more where a file ends meanwhile.
    assert source.reads <= source.polls <= source.reads + 2 and 1 <= source.reads <= 5


def test_a_source_that_wakes_is_polled_at_once(tmp_path: Path) -> None:
    source = Patient(times=200)
    record(tmp_path, source, 2.5)
    assert source.polls > 200


def test_a_signal_ends_the_recording_of_patient_sources_at_once(tmp_path: Path) -> None:
    begun = time.monotonic()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    record(tmp_path, Patient(), 90.0, read_seconds=90.0)
    timer.join()
    assert time.monotonic() - begun < 45


class Plenty(LateSource):
    """Gives many batches at a reading, and notes how many rows were written when it gives the next."""

    BATCHES, ROWS = 10, 8_000

    def __init__(self, folder: Path) -> None:
        self._folder, self.seen, self._given = folder, [0], False

    def start(self) -> None: ...

    def read(self) -> Iterable[tuple[str, Any]]:
        for number in range(0 if self._given else self.BATCHES):
            first = number * self.ROWS
            identities = pa.array(range(first, first + self.ROWS), pa.int64())
            columns = dict.fromkeys(("flow_id", "start_time", "end_time"), identities)
            yield "flows", tables.batch(tables.FLOWS, columns, self.ROWS)
            self.seen.append(sum(path.stat().st_size for path in self._folder.rglob("flows-*.arrows")))
        self._given = True


def test_what_is_much_is_written_while_it_is_read(tmp_path: Path) -> None:
    source = Plenty(tmp_path)
    record(tmp_path, source, 1.2)
    assert source.seen[5] > 0 and source.seen == sorted(source.seen)
    paths = sorted(tmp_path.rglob("flows/**/*.parquet"))  # two when an interval ends meanwhile
    identities = [number for path in paths for number in pq.read_table(path)["flow_id"].to_pylist()]
    assert identities == list(range(source.BATCHES * source.ROWS))


class Failing(LateSource):
    """Cannot be read."""

    def start(self) -> None: ...

    def read(self) -> Iterable[tuple[str, Any]]:
        raise ValueError("on purpose")


def test_what_others_gave_is_written_when_a_source_fails(tmp_path: Path) -> None:
    capture = metadata.CaptureMetadata("web-1", new_capture_id(datetime.now(UTC)), "plenty,failing")
    sources = {"plenty": Plenty(tmp_path), "failing": Failing()}
    with pytest.raises(CannotRecordError, match="source failing failed"):
        Pipeline(Plan(tmp_path, sources, capture), Watcher()).run()
    rows = sum(pq.read_metadata(path).num_rows for path in tmp_path.rglob("flows/**/*.parquet"))
    assert rows == Plenty.BATCHES * Plenty.ROWS
