"""Verdicts: what is regressed, passed or not answered; mix shift; and what may be compared at all."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from analyze.statistics import comparison, mix, quality
from analyze.statistics.comparison import Side, decide, exit_code, judge, overall
from analyze.statistics.metrics import BY_NAME, METRICS
from analyze.statistics.quantiles import bin_of

GENERATOR = np.random.default_rng(8)
SERIES = GENERATOR.normal(0, 1, 240)


def side(level: float, spread: float = 0.02, support: float = 1e5, series: np.ndarray = SERIES) -> Side:
    batches = level * np.exp(spread * np.linspace(-1, 1, 8))
    return Side(level, batches, np.full(8, support), series, trials=1e6, events=1e6 * min(level, 1.0))


def verdict(name: str, before: Side, after: Side) -> comparison.MetricVerdict:
    return decide([judge(BY_NAME[name], before, after)])[0]


def test_thresholds_are_the_specified_ones() -> None:
    assert {metric.name: metric.delta for metric in METRICS if metric.kind == "quantile"} == {
        "connect_p50": 0.05, "connect_p95": 0.10, "connect_p99": 0.15, "rtt_p50": 0.05, "rtt_p95": 0.10,
        "rtt_min_p50": 0.05, "queueing_p50": 0.05,
    }  # fmt: skip
    assert BY_NAME["connect_p95"].minimum == 100
    assert BY_NAME["connect_p99"].minimum == 1000
    assert BY_NAME["retransmit_ratio"].minimum == 20
    assert BY_NAME["retransmit_ratio"].relevant(0.001) == pytest.approx(1.0)
    assert BY_NAME["rtt_p50"].relevant(100.0) == pytest.approx(2.0)
    assert BY_NAME["rtt_p50"].relevant(1e6) == pytest.approx(0.05)


def test_each_verdict() -> None:
    assert verdict("connect_p50", side(100), side(120)).verdict == "regressed"
    assert verdict("connect_p50", side(120), side(100)).verdict == "improved"
    assert verdict("connect_p50", side(100), side(101)).verdict == "pass"
    noisy = verdict("connect_p50", side(100, 0.5), side(101, 0.5))
    assert noisy.verdict == "inconclusive"
    assert noisy.detectable > 0.2 and "would have been seen" in noisy.reason


def test_short_thin_or_sticky_captures_have_no_verdict() -> None:
    short = verdict("connect_p50", side(100, series=SERIES[:60]), side(200))
    assert short.verdict == "inconclusive" and "64" in short.reason
    thin = verdict("connect_p99", side(100, support=500), side(200))
    assert thin.verdict == "inconclusive" and "1000" in thin.reason
    sticky = verdict("connect_p50", side(100, series=np.linspace(0, 1, 240)), side(200))
    assert sticky.verdict == "inconclusive" and "times longer" in sticky.reason
    empty = Side(math.nan, np.full(8, np.nan), np.zeros(8), SERIES)
    assert verdict("connect_p50", empty, side(100)).verdict == "inconclusive"


def test_a_ratio_from_nothing_to_much_is_a_regression() -> None:
    none = Side(5e-7, np.full(8, 4e-6), np.zeros(8), SERIES, trials=1e6, events=0)
    assert verdict("connect_failure_ratio", none, side(0.05, support=6000)).verdict == "regressed"


def test_a_ratio_too_rare_to_matter_passes_and_too_thin_does_not() -> None:
    none = Side(5e-7, np.full(8, 4e-6), np.zeros(8), SERIES, trials=1e6, events=0)
    rare = verdict("connect_failure_ratio", none, none)
    assert rare.verdict == "pass" and "too rare" in rare.reason
    thin = Side(5e-3, np.full(8, 4e-2), np.zeros(8), SERIES, trials=100, events=0)
    assert verdict("connect_failure_ratio", thin, thin).verdict == "inconclusive"


def test_informational_metrics_never_decide() -> None:
    row = verdict("bytes_per_second", side(100), side(300))
    assert row.verdict == "information"
    assert overall([row]) == "inconclusive"
    assert overall([row, verdict("connect_p50", side(100), side(101))]) == "pass"


def test_overall_and_exit_codes() -> None:
    worse = verdict("connect_p50", side(100), side(120))
    good = verdict("rtt_p50", side(10_000), side(10_000))
    unknown = verdict("rtt_p95", side(100, 3.0), side(100, 3.0))
    assert unknown.verdict == "inconclusive"
    assert overall([worse, good, unknown]) == "regressed"
    assert overall([good, unknown]) == "inconclusive"
    assert overall([worse, good], fail_on=["rtt_p50"]) == "pass"
    assert [exit_code(v) for v in ("pass", "improved", "regressed", "inconclusive")] == [0, 0, 1, 3]


def simpson(slow_share_before: float, slow_share_after: float, within: float) -> mix.Standardised:
    generator = np.random.default_rng(3)
    rows = []
    for name, share, factor in (("baseline", slow_share_before, 1.0), ("candidate", slow_share_after, within)):
        for batch in range(8):
            for stratum, level, part in (("fast", 100.0, 1 - share), ("slow", 10_000.0, share)):
                values = generator.lognormal(math.log(level * factor), 0.1, round(3000 * part))
                bins, counts = np.unique(bin_of(values), return_counts=True)
                rows += [(name, batch, stratum, int(b), int(c)) for b, c in zip(bins, counts, strict=True)]
    frame = pl.DataFrame(rows, schema=["side", "batch", "stratum", "bin", "count"], orient="row")
    series = {"baseline": SERIES, "candidate": SERIES[::-1]}
    return mix.standardise_histograms(BY_NAME["connect_p50"], frame, series)


def test_a_change_of_mix_is_no_regression() -> None:
    result = simpson(0.3, 0.7, 1.0)
    row = decide([judge(BY_NAME["connect_p50"], result.baseline, result.candidate, result.raw_change)])[0]
    assert result.raw_change > 10
    assert row.change == pytest.approx(0.0, abs=0.03)
    assert row.verdict == "pass"
    assert row.mix_shift


def test_a_change_within_shows_through_a_mix_that_hides_it() -> None:
    result = simpson(0.7, 0.3, 1.3)
    row = decide([judge(BY_NAME["connect_p50"], result.baseline, result.candidate, result.raw_change)])[0]
    assert result.raw_change < 0
    assert row.verdict == "regressed"
    assert row.mix_shift


def test_standardised_ratio_reweights_strata() -> None:
    rows = []
    for name, shares in (("baseline", (800, 200)), ("candidate", (200, 800))):
        for batch in range(8):
            for stratum, trials, rate in zip(("a", "b"), shares, (0.05, 0.50), strict=True):
                rows.append((name, batch, stratum, trials * rate, float(trials)))
    frame = pl.DataFrame(rows, schema=["side", "batch", "stratum", "connect_failures", "connects"], orient="row")
    series = {"baseline": SERIES, "candidate": SERIES}
    result = mix.standardise_ratio(BY_NAME["connect_failure_ratio"], frame, series)
    assert result.raw_change == pytest.approx(0.41 / 0.14 - 1, rel=0.01)
    assert result.candidate.value == pytest.approx(result.baseline.value, rel=0.01)
    assert result.comparable == 1.0


def test_strata_of_one_side_only_are_left_out() -> None:
    counts = pl.DataFrame(
        {"side": ["baseline", "baseline", "candidate"], "stratum": ["a", "b", "a"], "count": [100, 300, 50]}
    )
    weights, comparable = mix.stratum_weights(counts)
    assert comparable == 0.25
    assert weights.filter(pl.col("stratum") == "b")["weight"].to_list() == [0.0, 0.0]


def test_quality_gate() -> None:
    clean = quality.CaptureQuality(events_seen=1000, events_lost=0)
    assert quality.gate(clean, clean) == quality.Gate()
    two = quality.gate(clean, quality.CaptureQuality(events_seen=995, events_lost=15))
    assert two.warnings and two.inconclusive
    ten = quality.gate(clean, quality.CaptureQuality(events_seen=900, events_lost=100))
    assert len(ten.inconclusive) == 2
    other = quality.gate(clean, quality.CaptureQuality(filters=frozenset({"port 443"}), events_seen=1))
    assert other.refusals and "filters" in other.refusals[0]
    assert quality.gate(clean, quality.CaptureQuality()).warnings == (
        "the candidate has no health table: what it lost is unknown",
    )
