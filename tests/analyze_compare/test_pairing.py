"""Hours of two windows find their partners, and what the day does cancels in the comparison."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from analyze.compare.pairing import Pairing, applies, pair
from netrec.cli import main
from tests.support.analysis_traces import write_trace

MONDAY = datetime(2026, 11, 16, tzinfo=UTC)


def window(start: datetime, hours: float) -> tuple[int, int]:
    first = round(start.timestamp() * 1e6)
    return first, first + round(hours * 3.6e9)


def moments(hours: tuple[int, ...]) -> list[datetime]:
    return [datetime.fromtimestamp(hour * 3600, UTC) for hour in hours]


def paired(baseline: tuple[int, int], candidate: tuple[int, int]) -> Pairing:
    found = pair(baseline, candidate, UTC)
    assert found is not None
    return found


def test_a_day_is_held_against_the_same_day_of_the_week_before() -> None:
    found = paired(window(MONDAY, 7 * 24), window(MONDAY + timedelta(days=9), 24))
    assert found.by == "hour and weekday" and len(found) == 24
    for before, after in zip(moments(found.baseline), moments(found.candidate), strict=True):
        assert after - before == timedelta(days=7)


def test_of_two_weeks_the_nearer_one_lends_its_hours() -> None:
    found = paired(window(MONDAY, 14 * 24), window(MONDAY + timedelta(days=14), 24))
    assert all(hour.date() == (MONDAY + timedelta(days=7)).date() for hour in moments(found.baseline))
    # The same the other way round: the candidate before the baseline.
    found = paired(window(MONDAY + timedelta(days=7), 14 * 24), window(MONDAY, 24))
    assert all(hour.date() == (MONDAY + timedelta(days=7)).date() for hour in moments(found.baseline))


def test_without_a_common_weekday_the_time_of_day_pairs() -> None:
    found = paired(window(MONDAY + timedelta(hours=0.5), 24), window(MONDAY + timedelta(days=1), 24))
    assert found.by == "hour of day"
    assert len(found) == 23  # the half hours at the ends are no whole hour
    assert all(
        before.hour == after.hour
        for before, after in zip(moments(found.baseline), moments(found.candidate), strict=True)
    )


def test_what_has_no_hour_in_common_is_not_paired() -> None:
    assert pair(window(MONDAY, 5), window(MONDAY + timedelta(hours=10), 5), UTC) is None


def test_short_windows_are_compared_as_they_are() -> None:
    assert not applies(window(MONDAY, 3), window(MONDAY, 30))
    assert applies(window(MONDAY, 5), window(MONDAY, 30))


def test_a_regression_is_seen_through_the_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Latency that doubles over the day, every day: 15% more the next day is seen, the same day is not a finding."""

    def day(factor: float):
        def change(columns: dict[str, np.ndarray], generator: np.random.Generator) -> None:
            hour = np.linspace(0, 12, len(columns["flow_id"]))  # rows come in the order of time
            level = 2000 * (1 + 0.5 * np.sin(2 * np.pi * hour / 12)) * factor
            columns["connect_latency_us"] = level * np.exp(0.1 * generator.standard_normal(len(hour)))

        return change

    shape = {"flows": 24_000, "seconds": 12 * 3600.0}
    write_trace(tmp_path / "before", start=MONDAY, change=day(1.0), **shape)  # type: ignore[arg-type]
    for name, factor in (("same", 1.0), ("slow", 1.15)):
        write_trace(tmp_path / name, start=MONDAY + timedelta(days=7), change=day(factor), **shape)  # type: ignore[arg-type]
    found = {}
    for name in ("same", "slow"):
        with pytest.raises(SystemExit) as ended:
            main(["analyze", "compare", str(tmp_path / "before"), str(tmp_path / name), "--utc",
                  "--metric", "connect_p50", "--format", "json"])  # fmt: skip
        found[name] = json.loads(capsys.readouterr().out), ended.value.code
    document, code = found["same"]
    assert code == 0 and document["metrics"][0]["verdict"] == "pass", document["sentence"]
    # The first row ends after the first hour has begun: that hour is not whole.
    assert document["pairing"]["by"] == "hour and weekday" and document["pairing"]["hours"] in (10, 11)
    assert any(note.startswith("paired by hour and weekday: ") for note in document["notes"])
    document, code = found["slow"]
    assert code == 1 and document["metrics"][0]["verdict"] == "regressed", document["sentence"]
    assert document["metrics"][0]["change"] == pytest.approx(0.15, abs=0.02)
