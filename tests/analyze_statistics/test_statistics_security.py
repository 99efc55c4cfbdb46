"""Scans, beacons and anomalies by hand and by their rates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from analyze.statistics import anomalies, beacons, scans

DAY = 86_400.0


def contacts(rows: list[tuple[str, str, float, bool]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["source", "destination", "time", "failed"], orient="row")


def slow_walk(outcomes: list[bool]) -> tuple[str, int]:
    ratio = 1.0
    for number, failed in enumerate(outcomes, start=1):
        ratio = ratio * 4 if failed else ratio / 4
        if ratio > 99:
            return "scanner", number
        if ratio < 0.0101:
            return "benign", number
    return "undecided", len(outcomes)


@pytest.mark.parametrize("seed", range(8))
def test_walk_is_the_slow_walk(seed: int) -> None:
    outcomes = (np.random.default_rng(seed).random(30) < 0.5).tolist()
    table = contacts([("a", f"d{i}", float(i), bool(failed)) for i, failed in enumerate(outcomes)])
    row = scans.threshold_random_walk(table).row(0, named=True)
    assert (row["verdict"], row["contacts"]) == slow_walk(outcomes)


def test_only_first_contacts_count() -> None:
    repeated = contacts([("a", "d", float(i), True) for i in range(50)])
    assert scans.threshold_random_walk(repeated)["verdict"].to_list() == ["undecided"]
    four = contacts([("a", f"d{i}", float(i), True) for i in range(4)])
    assert scans.threshold_random_walk(four)["verdict"].to_list() == ["scanner"]


def test_rates_at_eighty_percent() -> None:
    generator = np.random.default_rng(1)
    rows = [
        (f"{kind}{i}", f"{kind}{i}-{j}", float(j), bool(generator.random() < share))
        for kind, share in (("bad", 0.8), ("good", 0.2))
        for i in range(500)
        for j in range(40)
    ]
    result = scans.threshold_random_walk(contacts(rows)).with_columns(bad=pl.col("source").str.starts_with("bad"))
    flagged = result.group_by("bad").agg((pl.col("verdict") == "scanner").mean()).sort("bad")["verdict"].to_list()
    assert flagged[0] <= 0.02 and flagged[1] >= 0.98


def test_an_outage_flags_nobody() -> None:
    rows = [(f"c{i}", f"dead{j}", float(j), True) for i in range(40) for j in range(6)]
    assert scans.threshold_random_walk(contacts(rows)).filter(pl.col("verdict") == "scanner").is_empty()


def test_fan_out_rule() -> None:
    start = datetime(2026, 1, 1, 0, 4, 40, tzinfo=UTC)
    rows = [("h", f"10.0.0.{i}", 80, start + timedelta(seconds=2 * i)) for i in range(25)]
    rows += [("p", "10.0.0.1", 1000 + i, start + timedelta(seconds=i)) for i in range(15)]
    rows += [("slow", f"10.0.0.{i}", 80, start + timedelta(minutes=2 * i)) for i in range(60)]
    table = pl.DataFrame(rows, schema=["source", "destination", "port", "time"], orient="row")
    found = scans.fan_out(table)
    assert found["source"].to_list() == ["h", "p"]
    assert found["hosts"][0] == 25 and found["ports"][1] == 15


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # Worked examples of RITA v5's timing score.
        (np.arange(1, 11), 1.0),
        (1517338924 + 60 * np.arange(10), 1.0),
        (np.cumsum([0, 98, 99, 99, 100, 100, 100, 101, 101, 102]), 0.995),
        (np.cumsum([0, *[98, 300] * 5]), 0.746),
        (np.cumsum([0, 1, 299, 25, 4975, 90, 2, 42, 500, 1500]), 0.083),
    ],
)
def test_published_timing_scores(times: np.ndarray, expected: float) -> None:
    intervals = np.sort(np.diff(times).astype(float))
    assert beacons.regularity(intervals, when_tiny=1.0) == pytest.approx(expected, abs=0.001)


def test_a_jittered_beacon_stands_out_and_a_poisson_host_does_not() -> None:
    generator = np.random.default_rng(3)
    steady = np.cumsum(60 * generator.uniform(0.9, 1.1, 1430))
    found = beacons.score(steady, np.full(1430, 512), 0, DAY)
    assert found is not None and found.score >= 0.9 and found.band == "high"
    assert found.interval == pytest.approx(60, abs=1)
    random = np.sort(generator.uniform(0, DAY, 1440))
    poisson = beacons.score(random, generator.lognormal(7, 1.5, 1440), 0, DAY)
    assert poisson is not None and poisson.score < found.score


def test_short_captures_and_few_contacts() -> None:
    assert beacons.score([1, 2, 3], [1, 1, 1], 0, 10) is None
    brief = beacons.score(60.0 * np.arange(20), np.full(20, 100.0), 0, 1300)
    assert brief is not None and brief.duration == 0.0


def test_rarity_moves_the_rank() -> None:
    assert beacons.rarity(0.8, 0.01) == pytest.approx(0.95)
    assert beacons.rarity(0.8, 0.6) == pytest.approx(0.65)
    assert beacons.rarity(0.8, 0.1) == pytest.approx(0.8)


def test_longest_run_goes_around_midnight() -> None:
    counts = np.zeros(24, dtype=np.int64)
    counts[[22, 23, 0, 1, 2]] = 1
    assert beacons.longest_run(counts) == 5
    assert beacons.longest_run(np.ones(24, dtype=np.int64)) == 24


def test_overdispersed_counts_are_judged_as_such() -> None:
    generator = np.random.default_rng(5)
    history = generator.negative_binomial(3, 3 / 33, 500)
    p_values = [anomalies.count_p_value(history[:100], count) for count in history[100:]]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.1
    assert anomalies.count_p_value(history[:100], 400) < 1e-4
    assert np.isnan(anomalies.count_p_value([1, 2], 9))


def test_volume_against_its_own_history_and_the_report_wide_adjustment() -> None:
    history = np.random.default_rng(6).lognormal(15, 0.5, 40)
    assert anomalies.volume_p_value(history, 1e9) < 1e-6
    assert anomalies.volume_p_value(history, float(np.median(history))) > 0.2
    table = pl.DataFrame({"name": ["a", "b", "c"], "p_value": [1e-6, 0.06, None]})
    found = anomalies.surprising(table.with_columns(pl.col("p_value").fill_null(float("nan"))))
    assert found["name"].to_list() == ["a"]
