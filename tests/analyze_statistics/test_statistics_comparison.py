"""Verdicts: what is regressed, passed or not answered; mix shift; and what may be compared at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy import stats

from analyze.statistics import comparison, mix, quality
from analyze.statistics.comparison import Side, decide, exit_code, judge, overall
from analyze.statistics.differences import Difference
from analyze.statistics.metrics import BY_NAME, METRICS
from analyze.statistics.quantiles import bin_of
from analyze.statistics.rare_events import BURST, Counted, RareRatio, burst_size
from analyze.statistics.thin_quantiles import Distribution, ThinQuantile

GENERATOR = np.random.default_rng(8)
SERIES = GENERATOR.normal(0, 1, 240)


def side(level: float, spread: float = 0.02, support: float = 1e5, series: np.ndarray = SERIES) -> Side:
    batches = level * np.exp(spread * np.linspace(-1, 1, 8))
    return Side(level, batches, np.full(8, support), series)


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
    assert verdict("connect_p50", side(10_000), side(12_000)).verdict == "regressed"
    assert verdict("connect_p50", side(12_000), side(10_000)).verdict == "improved"
    assert verdict("connect_p50", side(10_000), side(10_100)).verdict == "pass"
    assert verdict("connect_p50", side(50), side(60)).verdict == "pass"  # 10 us are not 5% of a millisecond
    noisy = verdict("connect_p50", side(10_000, 0.5), side(10_100, 0.5))
    assert noisy.verdict == "inconclusive"
    assert noisy.detectable > 0.2 and "would have been seen" in noisy.reason


def test_short_thin_or_sticky_captures_have_no_verdict() -> None:
    short = verdict("connect_p50", side(100, series=SERIES[:60]), side(200))
    assert short.verdict == "inconclusive" and "64" in short.reason
    thin = verdict("connect_p99", side(100, support=500), side(200))
    assert thin.verdict == "inconclusive" and "too few" in thin.reason
    sticky = verdict("connect_p50", side(100, series=np.linspace(0, 1, 240)), side(200))
    assert sticky.verdict == "inconclusive" and "times longer" in sticky.reason
    empty = Side(math.nan, np.full(8, np.nan), np.zeros(8), SERIES)
    assert verdict("connect_p50", empty, side(100)).verdict == "inconclusive"


def counted_side(*, trials: float, events: Sequence[float] = (), buckets: int = 240) -> Side:
    """Evenly spread trials, and so many events in the first buckets."""
    per_bucket = np.zeros(buckets)
    per_bucket[: len(events)] = events
    batches = per_bucket.reshape(8, -1).sum(axis=1)
    ratios = (batches + 0.5) / (trials / 8)
    counted = Counted(per_bucket, np.full(buckets, trials / buckets))
    return Side((per_bucket.sum() + 0.5) / trials, ratios, batches, SERIES[:buckets], counted)


def test_a_ratio_from_nothing_to_much_is_a_regression() -> None:
    none = counted_side(trials=24_000)
    assert verdict("connect_failure_ratio", none, counted_side(trials=24_000, events=[5] * 240)).verdict == "regressed"
    few = verdict("connect_failure_ratio", none, counted_side(trials=24_000, events=[1, 0, 1, 0] * 50))
    assert few.verdict == "regressed" and few.change > 10
    assert verdict("connect_failure_ratio", counted_side(trials=24_000, events=[1, 0] * 60), none).verdict == "improved"


def test_events_that_were_not_seen_are_ruled_out_by_enough_trials_only() -> None:
    none = counted_side(trials=10_000)
    found = verdict("connect_failure_ratio", none, none)
    assert found.verdict == "pass" and "0 of 10,000" in found.reason
    assert math.isnan(found.change)
    thin = verdict("connect_failure_ratio", none, counted_side(trials=3_000))
    assert thin.verdict == "inconclusive" and "2.1 times longer" in thin.reason
    no_part = replace(none, batches=np.array([math.nan, *none.batches[1:]]))
    assert verdict("connect_failure_ratio", none, no_part).verdict == "inconclusive"


def test_events_that_come_in_bursts_tell_less() -> None:
    none, one_by_one = counted_side(trials=24_000), counted_side(trials=24_000, events=[1, 0, 0, 0] * 18)
    in_bursts = counted_side(trials=24_000, events=[0] * 100 + [9, 9])
    assert verdict("connect_failure_ratio", one_by_one, none).verdict in ("pass", "improved")
    assert verdict("connect_failure_ratio", in_bursts, none).verdict == "inconclusive"
    assert verdict("connect_failure_ratio", none, in_bursts).verdict == "inconclusive"
    assert verdict("connect_failure_ratio", in_bursts, one_by_one).low == -1  # nothing falls by more than all of it


def test_a_burst_is_as_large_as_its_longest_run() -> None:
    trials = np.full(240, 100.0)
    assert burst_size(Counted(np.zeros(240), trials)) == BURST
    spread = np.zeros(240)
    spread[64:80] = 1  # one outage of 16 s, a failure a second
    assert burst_size(Counted(spread, trials), Counted(np.zeros(240), trials)) == pytest.approx(16, rel=0.1)
    assert burst_size(Counted(np.tile([1.0, 0, 0, 0], 60), trials)) == BURST


def test_the_difference_of_rare_ratios_is_bounded_as_published() -> None:
    """Without bursts the limits are Clopper and Pearson's, and a p-value is where a bound crosses its margin."""
    found = Difference(RareRatio(counts(5, 1000), 1.0), RareRatio(counts(12, 1000), 1.0))
    above = stats.binomtest(12, 1000).proportion_ci(0.90, "exact").high
    below = stats.binomtest(5, 1000).proportion_ci(0.90, "exact").low
    assert found.upper(0.95) == pytest.approx(0.007 + math.hypot(above - 0.012, 0.005 - below))
    assert found.lower(1 - found.p_above(0.001)) == pytest.approx(0.001, abs=1e-6)
    assert found.upper(1 - found.p_below(-0.02)) == pytest.approx(0.02, abs=1e-6)
    assert found.p_above(0.5) == 0.5
    longer = found.times_longer(0.010)
    assert found.upper(0.95, longer) < 0.010 <= found.upper(0.95, longer / 1.1)
    assert math.isinf(found.times_longer(0.007))
    # 80% power: 1.645 + 0.842 errors of the difference above the margin.
    ratio = RareRatio(counts(500, 100_000), 1.0)
    error = math.sqrt(2 * 0.005 * 0.995 / 100_000)
    assert Difference(ratio, ratio).detectable(0.001) == pytest.approx(0.001 + 2.487 * error, rel=0.02)


def counts(events: float, trials: float) -> Counted:
    return Counted(np.array([float(events)]), np.array([float(trials)]))


def test_informational_metrics_never_decide() -> None:
    row = verdict("bytes_per_second", side(100), side(300))
    assert row.verdict == "information"
    assert overall([row]) == "inconclusive"
    assert overall([row, verdict("connect_p50", side(100), side(101))]) == "pass"


def test_overall_and_exit_codes() -> None:
    worse = verdict("connect_p50", side(10_000), side(12_000))
    good = verdict("rtt_p50", side(10_000), side(10_000))
    unknown = verdict("rtt_p95", side(100, 3.0), side(100, 3.0))
    assert unknown.verdict == "inconclusive"
    assert overall([worse, good, unknown]) == "regressed"
    assert overall([good, unknown]) == "inconclusive"
    assert overall([worse, good], fail_on=["rtt_p50"]) == "pass"
    assert [exit_code(v) for v in ("pass", "improved", "regressed", "inconclusive")] == [0, 0, 1, 3]


def latencies(flows: int, level: float, spread: float = 0.1, seed: int = 1) -> Distribution:
    generator = np.random.default_rng(seed)
    values = level * np.exp(generator.normal(0, spread, flows))
    frame = pl.DataFrame({"batch": np.arange(flows) * 8 // flows, "bin": bin_of(values)})
    counted = frame.group_by("batch", "bin").agg(pl.len().alias("count"))
    return Distribution(counted.with_columns(weighted=pl.col("count").cast(pl.Float64)), 0.99)


def test_a_high_quantile_of_few_flows_is_judged_by_the_ranks_of_all() -> None:
    def thin(flows: int, level: float, seed: int) -> Side:
        return replace(side(level, support=flows / 8), distribution=latencies(flows, level, seed=seed))

    same = verdict("connect_p99", thin(4000, 20_000, 1), thin(4000, 20_000, 2))
    assert same.verdict == "pass" and "4,000 flows" in same.reason
    assert verdict("connect_p99", thin(4000, 20_000, 1), thin(4000, 30_000, 2)).verdict == "regressed"
    assert verdict("connect_p99", thin(4000, 30_000, 1), thin(4000, 20_000, 2)).verdict == "improved"
    few = verdict("connect_p99", thin(400, 20_000, 1), thin(400, 20_000, 2))
    assert few.verdict == "inconclusive" and "any rise" in few.reason and "times longer" in few.reason


def test_limits_of_a_quantile_are_those_of_the_ranks() -> None:
    few = latencies(1000, 1000, spread=0.5)
    assert few.flows == pytest.approx(1000)
    assert few.above().trials.sum() == 1000
    assert 5 <= few.above().events.sum() <= 10
    estimate = ThinQuantile(few, 1000.0)
    assert estimate.value == pytest.approx(math.log(few.quantile(0.99)))
    assert estimate.limit(0.05) < estimate.value < estimate.limit(0.95)
    assert math.isinf(ThinQuantile(few, 290.0).limit(0.95))  # .99^290 > 5%
    assert math.isfinite(ThinQuantile(few, 300.0).limit(0.95))
    assert estimate.limit(0.95, longer=10) < estimate.limit(0.95)
    halved = Distribution(
        few.frame.with_columns(pl.col("weighted") * pl.when(pl.col("batch") < 4).then(3).otherwise(1)), 0.99
    )
    assert halved.flows == pytest.approx(800, rel=0.01)  # Kish: 2000^2 / (9 * 500 + 500)


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
