"""The wall clock is set, slewed, or the host sleeps: with clocks made for the test."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as dataset
import pyarrow.parquet as pq
import pytest

from netrec.trace import layout, metadata
from recorder.clock import WallClock
from recorder.pipeline import Pipeline, Plan, Watcher
from recorder.retention import Retention
from recorder.source import SourceHealth
from recorder.sources.synthetic.flows import FlowGenerator

DAY = 86400.0


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall, self.boot = 1_790_000_000.0, 500.0
        self.clock = WallClock(lambda: self.wall, lambda: self.boot)

    def passes(self, seconds: float, wall: float | None = None) -> float:
        self.boot += seconds
        self.wall += seconds if wall is None else wall
        return self.clock.step()


def test_a_step_is_told_once() -> None:
    clocks = Clocks()
    assert clocks.passes(1) == 0
    assert clocks.passes(1, wall=3601) == 3600
    assert clocks.passes(1) == 0
    assert clocks.passes(1, wall=-3599) == -3600


def test_slewing_adds_up_to_no_step() -> None:
    clocks = Clocks()
    assert [clocks.passes(1, wall=1.0005) for _ in range(10_000)] == [0.0] * 10_000


def test_a_leap_second_that_is_repeated_is_a_step_back() -> None:
    clocks = Clocks()
    assert clocks.passes(0.1) == 0
    # 23:59:59.95 is followed by 23:59:59.05: looked at a little late, and a little early.
    for late in (-0.01, 0.0, 0.01):
        step = clocks.passes(0.1 + late, wall=0.1 + late - 1)
        assert step == pytest.approx(-1, abs=1e-6)
        assert clocks.passes(0.1) == 0


def test_a_leap_second_that_is_smeared_over_a_day_is_no_step() -> None:
    clocks = Clocks()
    assert {clocks.passes(10, wall=10 - 10 / DAY) for _ in range(int(DAY) // 10)} == {0.0}


def test_waiting_between_two_looks_is_no_step() -> None:
    now = 1000.0
    waits = [0.0, 0.0, 2.0, 0.0, 0.0]  # the third time the process has to wait once it has looked at the wall clock

    def wall() -> float:
        nonlocal now
        seen = 1_790_000_000 + now
        now += waits.pop(0)
        return seen

    clock = WallClock(wall, lambda: now)
    assert [clock.step(), clock.step(), clock.step()] == [0, 0, 0]


def test_sleep_is_no_step() -> None:
    assert Clocks().passes(8 * 3600) == 0


def test_only_a_step_back_makes_ages_smaller_and_none_makes_them_greater() -> None:
    clocks = Clocks()
    right = clocks.wall
    clocks.wall += 400 * DAY
    assert clocks.clock.for_age() == right
    clocks.passes(0)
    assert clocks.clock.for_age() == right
    clocks.passes(10)
    assert clocks.clock.for_age() == right + 10
    clocks.passes(0, wall=-400 * DAY)
    assert clocks.clock.for_age() == right + 10
    clocks.passes(0, wall=-DAY)
    assert clocks.clock.for_age() == right + 10 - DAY


class SteppedSource:
    """A row at every reading; after the second one the wall clock is set 40 days ahead."""

    def __init__(self) -> None:
        self.ahead, self.readings = 0.0, 0
        self._generator = FlowGenerator()

    def now(self) -> float:
        return time.time() + self.ahead

    def start(self) -> None: ...

    def poll(self) -> bool:
        return False

    def read(self) -> Iterable[tuple[str, Any]]:
        self.readings += 1
        now_us = int(self.now() * 1e6)
        yield "flows", self._generator.rows(now_us - 1000, now_us, 1)
        if self.readings == 2:
            self.ahead = 40 * DAY

    def health(self) -> SourceHealth:
        return SourceHealth(events_seen=1)

    def stop(self) -> Iterable[tuple[str, Any]]:
        return []

    def close(self) -> None: ...


def test_files_and_intervals_end_where_the_clock_is_set_and_none_is_deleted(tmp_path: Path) -> None:
    begun = datetime.now(UTC)
    hours = [begun - timedelta(days=days) for days in (31, 2)]
    old, new = (tmp_path / layout.TraceFile("flows", hour, "web-1", "c1", 0).relative for hour in hours)
    for path in (old, new):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    source = SteppedSource()
    capture = metadata.CaptureMetadata("web-1", layout.new_capture_id(begun), "stepped")
    plan = Plan(tmp_path, {"stepped": source}, capture, duration=3.5, retention=Retention(age=30 * DAY))
    Pipeline(plan, Watcher(), WallClock(source.now)).run()
    assert source.readings >= 3
    assert not old.exists()
    assert new.exists()
    new.unlink()

    later = begun + timedelta(days=20)
    paths = sorted(tmp_path.rglob("flows/**/*.parquet"))
    about = [metadata.decode_file(pq.read_metadata(path).metadata) for path in paths]
    assert about[0].closed == "clock_step"
    assert datetime.fromisoformat(about[0].closed_time) < later < datetime.fromisoformat(about[1].opened)
    times = [pq.read_table(path)["end_time"].to_pylist() for path in paths]
    assert max(times[0]) < later < min(times[1])

    health = dataset.dataset(tmp_path / "health", format="parquet").to_table().to_pylist()
    before, after = (
        [row for row in health if row["kind"] == "interval" and (row["end_time"] > later) is late]
        for late in (False, True)
    )
    assert sum(row["events_seen"] for row in before) == 2
    assert all(row["start_time"] > later for row in after)
    (step,) = (row for row in health if row["kind"] == "clock_step")
    assert step["start_time"] > later
    moved = float(step["reason"].removeprefix("the wall clock moved by ").removesuffix(" s"))
    assert abs(moved - 40 * DAY) < 1
