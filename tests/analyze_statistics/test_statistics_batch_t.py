"""Batch means against the obvious slow version, and the level that it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import false_discovery_control, ttest_ind, ttest_rel

from analyze.statistics.batch_t import (
    autocorrelation_time,
    batch_edges,
    batch_means,
    compare_batches,
    compare_series,
    widening,
)
from analyze.statistics.effect_sizes import common_language_effect_size, mean_ratio, rank_test
from analyze.statistics.multiple_testing import q_values


def autoregressive(n: int, rho: float, generator: np.random.Generator) -> np.ndarray:
    noise = generator.standard_normal(n + 200) * np.sqrt(1 - rho**2)
    return lfilter([1], [1, -rho], noise)[200:]


def slow_autocorrelation_time(values: np.ndarray) -> float:
    centred = values - values.mean()
    tau = 1.0
    for lag in range(1, len(values)):
        tau += 2 * float((centred[:-lag] * centred[lag:]).sum() / (centred**2).sum())
        if lag >= 5 * tau:
            break
    return max(tau, 1.0)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9])
def test_autocorrelation_time_is_the_slow_sum(rho: float) -> None:
    series = autoregressive(500, rho, np.random.default_rng(3))
    assert autocorrelation_time(series) == pytest.approx(slow_autocorrelation_time(series), rel=1e-9)


def test_autocorrelation_time_is_near_its_theory() -> None:
    series = autoregressive(20_000, 0.6, np.random.default_rng(1))
    assert autocorrelation_time(series) == pytest.approx((1 + 0.6) / (1 - 0.6), rel=0.15)


def test_autocorrelation_time_of_little_or_constant_data_is_one() -> None:
    assert autocorrelation_time([]) == 1.0
    assert autocorrelation_time([3.0] * 50) == 1.0
    assert autocorrelation_time([np.nan] * 50) == 1.0


def test_comparison_is_welch_on_logarithms() -> None:
    generator = np.random.default_rng(2)
    before, after = np.exp(generator.normal(0, 0.2, 8)), np.exp(generator.normal(0.1, 0.3, 8))
    test = compare_batches(before, after, delta=0.0)
    oracle = ttest_ind(np.log(after), np.log(before), equal_var=False)
    interval = oracle.confidence_interval(0.95)
    assert test.p_any == pytest.approx(oracle.pvalue)
    assert np.log([test.low, test.high]) == pytest.approx([interval.low, interval.high])
    greater = ttest_ind(np.log(after), np.log(before), equal_var=False, alternative="greater")
    assert test.p_worse == pytest.approx(greater.pvalue)
    assert np.log1p(test.bound) == pytest.approx(
        -ttest_ind(np.log(before), np.log(after), equal_var=False, alternative="greater").confidence_interval(0.95).low
    )


def test_margin_moves_the_null_hypothesis() -> None:
    before = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.0, 1.02, 0.98])
    after = before * 1.2
    assert compare_batches(before, after, delta=0.05).p_worse < 0.01
    assert compare_batches(before, after, delta=0.2).p_worse == pytest.approx(0.5)
    assert compare_batches(before, after, delta=0.05, bad_direction=-1).p_better < 0.01


def test_detectable_change_is_found_in_four_of_five() -> None:
    generator = np.random.default_rng(5)
    probe = compare_batches(np.exp(generator.normal(0, 0.1, 8)), np.exp(generator.normal(0, 0.1, 8)))
    error = probe.standard_error / np.sqrt(2 / 8)
    found = sum(
        compare_batches(
            np.exp(generator.normal(0, error, 8)),
            np.exp(generator.normal(np.log1p(probe.detectable), error, 8)),
        ).p_worse
        < 0.05
        for _ in range(600)
    )
    assert 0.7 < found / 600 < 0.9


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="positive"):
        compare_batches([1, 2, 0], [1, 2, 3])
    with pytest.raises(ValueError, match="two batches"):
        compare_batches([1], [1, 2])


def test_constant_batches_are_no_effect() -> None:
    test = compare_batches([2.0] * 8, [2.0] * 8)
    assert test.ratio == pytest.approx(1.0)
    assert test.p_worse > 0.99
    assert test.bound < 1e-6


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 300))
def test_batches_cover_every_bucket_once(buckets: int) -> None:
    edges = batch_edges(buckets)
    assert edges[0] == 0 and edges[-1] == buckets
    sizes = np.diff(edges)
    assert sizes.min() >= 1 and sizes.max() - sizes.min() <= 1


def test_batch_means_leave_out_empty_buckets() -> None:
    assert batch_means([1.0, np.nan, 3.0, np.nan], 2).tolist() == [1.0, 3.0]
    assert np.isnan(batch_means([1.0, 1.0, np.nan, np.nan], 2)[1])


def test_gate_and_level_on_autocorrelated_series() -> None:
    generator = np.random.default_rng(11)
    rejected = 0
    for _ in range(300):
        a, b = (np.exp(0.3 * autoregressive(240, 0.6, generator)) for _ in range(2))
        test, gate = compare_series(a, b)
        rejected += gate and test.p_any < 0.05
    assert rejected / 300 <= 0.10
    assert widening(12, 1.0, 4.0) == widening(100, 4.0) == 1
    assert widening(10, 1.0, 4.0) == pytest.approx(1.2)


def test_q_values_are_benjamini_hochberg_and_keep_gaps() -> None:
    p = np.array([0.001, 0.2, 0.03, 0.04])
    slow = [min(p[j] * 4 / (np.sum(p <= p[j])) for j in range(4) if p[j] >= p[i]) for i in range(4)]
    assert q_values(p) == pytest.approx(slow)
    with_gap = q_values([0.01, np.nan, 0.04])
    assert with_gap[[0, 2]] == pytest.approx(false_discovery_control([0.01, 0.04]))
    assert np.isnan(with_gap[1])
    assert len(q_values([])) == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert q_values(p).tolist() == false_discovery_control(p).tolist()


def test_published_p_values_of_small_rank_tests() -> None:
    # benchstat's: no overlap in 3 against 3 and 4 against 4, and an interleaved pair.
    assert rank_test([1, 2, 3], [4, 5, 6]) == pytest.approx(0.1)
    assert rank_test([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(0.028571, abs=1e-6)


def test_common_language_effect_size_counts_pairs() -> None:
    generator = np.random.default_rng(4)
    before, after = generator.integers(0, 9, 17), generator.integers(2, 11, 23)
    pairs = np.mean([(y > x) + 0.5 * (y == x) for x in before for y in after])
    assert common_language_effect_size(before, after) == pytest.approx(pairs)
    assert common_language_effect_size([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]) == 0.5
    assert common_language_effect_size([24.0, 25.0], [2.0, 3.0]) == 0.0
    assert mean_ratio([100.0], [10.0]) == pytest.approx(0.1)
    assert np.isnan(mean_ratio([0.0], [1.0]))


def test_paired_batches_are_the_test_of_their_differences() -> None:
    generator = np.random.default_rng(8)
    before = np.exp(generator.normal(2, 0.5, 8))
    after = before * np.exp(generator.normal(0.1, 0.05, 8))
    found = compare_batches(before, after, paired=True)
    expected = ttest_rel(np.log(after), np.log(before))
    low, high = expected.confidence_interval()
    assert found.p_any == pytest.approx(expected.pvalue)
    assert (np.log(found.low), np.log(found.high)) == (pytest.approx(low), pytest.approx(high))
    with pytest.raises(ValueError, match="equally many"):
        compare_batches(before, after[:5], paired=True)
