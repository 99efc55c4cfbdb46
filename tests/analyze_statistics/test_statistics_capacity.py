"""Capacity's formulas by hand, forecasts by their coverage, lives against slow counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analyze.statistics import capacity, durations, extremes, forecast


def test_billing_drops_432_of_a_months_samples() -> None:
    samples = np.arange(8640.0)
    assert capacity.billing_95th(samples) == 8640 - 432 - 1
    assert capacity.billing_95th(samples, samples + 5) == 8640 - 432 - 1 + 5
    assert capacity.billing_95th([3.0]) == 3.0
    assert math.isnan(capacity.billing_95th([]))


def test_churn_ceiling_is_470_a_second() -> None:
    assert capacity.churn_ceiling() == pytest.approx(470.5, abs=0.1)


def test_little_predicts_a_simulated_queue() -> None:
    generator = np.random.default_rng(1)
    starts = np.sort(generator.uniform(0, 2000, 20_000))
    lives = generator.exponential(5.0, 20_000)
    sampled = [np.sum((starts <= t) & (t < starts + lives + 2.0)) for t in range(500, 1900, 10)]
    predicted = capacity.concurrency(10.0, 5.0, 2.0)
    assert capacity.little_gap(predicted, float(np.mean(sampled))) < 0.05


def test_burst_ratio_by_bin_size() -> None:
    series = np.ones(3600)
    series[100] = 61.0
    ratios = capacity.burst_ratios(series)
    mean = (3600 + 60) / 3600
    assert ratios[1] == pytest.approx(61 / mean)
    assert ratios[60] == pytest.approx(2 / mean)
    assert 3600 not in ratios
    assert capacity.burst_ratios([]) == {}


def test_headroom_after_growth_and_loss() -> None:
    assert capacity.headroom(60, 100) == pytest.approx(0.4)
    assert capacity.peak_after(40, growth=0.5, hosts=3, lost=1) == pytest.approx(90)
    assert capacity.peak_after(40, hosts=1, lost=1) == math.inf
    assert capacity.link_utilisation([12_500_000], 1.0, 1e9)[0] == pytest.approx(0.1)


def test_knee_is_found_where_it_was_bent_and_not_in_a_line() -> None:
    generator = np.random.default_rng(2)
    x = generator.uniform(0, 1, 300)
    bent = 100 + 10 * x + 900 * np.maximum(x - 0.7, 0) + generator.normal(0, 10, 300)
    found = capacity.knee(x, bent)
    assert found is not None and found.utilisation == pytest.approx(0.7, abs=0.05)
    assert capacity.knee(x, 100 + 10 * x + generator.normal(0, 10, 300)) is None
    assert capacity.knee(x[:10], bent[:10]) is None


def growing(generator: np.random.Generator, days: int, rho: float = 0.5) -> np.ndarray:
    noise = np.empty(days)
    state = 0.0
    for day in range(days):
        state = rho * state + generator.normal(0, 5 * math.sqrt(1 - rho**2))
        noise[day] = state
    return 100 + 0.5 * np.arange(days) + 6 * np.sin(2 * np.pi * np.arange(days) / 7) + noise


def test_forecast_interval_covers_and_says_so() -> None:
    covered, claimed = [], []
    for seed in range(12):
        series = growing(np.random.default_rng(seed), 120)
        prediction = forecast.forecast(series[:90], 30, seed=seed)
        covered.append(np.mean((series[90:] >= prediction.low) & (series[90:] <= prediction.high)))
        claimed.append(prediction.coverage)
    assert 0.65 < np.mean(covered) < 0.95
    assert 0.65 < np.mean(claimed) < 0.95


def test_first_crossing_dates_are_ordered_and_near_the_truth() -> None:
    prediction = forecast.forecast(growing(np.random.default_rng(3), 90), 45)
    crossing = forecast.first_crossing(prediction, 160.0)
    assert crossing.p10 <= crossing.p50 <= crossing.p90
    assert 3 <= crossing.p50 <= 25
    never = forecast.first_crossing(prediction, 1e6)
    assert never.p10 == math.inf and never.probability == 0.0
    assert prediction.growth_per_week == pytest.approx(3.5, abs=2.0)
    assert "weekly" in prediction.method


def test_forecast_limits_itself() -> None:
    with pytest.raises(ValueError, match="14"):
        forecast.forecast([1.0] * 13)
    assert forecast.horizon_for(30, 90) == 15
    assert len(forecast.forecast(np.full(20, 7.0), 90).middle) == 10
    gaps = growing(np.random.default_rng(1), 40)
    gaps[5] = np.nan
    assert np.isfinite(forecast.forecast(gaps).middle).all()


def test_saturation_and_resize() -> None:
    assert forecast.is_saturated([50, 99, 100, 100], 100)
    assert not forecast.is_saturated([50, 60, 70, 80], 100)
    assert forecast.after_last_resize([10, 10, 20, 20, 20]) == 2
    assert forecast.after_last_resize([10, 10]) == 0


def test_rare_peaks_need_two_weeks_and_are_indicative_under_sixty_days() -> None:
    generator = np.random.default_rng(6)
    peaks = 100 + 10 * generator.gumbel(size=2000)
    found = extremes.rare_peak(peaks, 150.0)
    assert found is not None and not found.indicative
    assert found.level == pytest.approx(np.quantile(peaks, 1 - 1 / 30), rel=0.03)
    assert found.exceedance == pytest.approx(1 - (1 - np.mean(peaks > 150)) ** 30, abs=0.05)
    assert extremes.rare_peak(peaks[:13], 150.0) is None
    short = extremes.rare_peak(peaks[:20], 150.0)
    assert short is not None and short.indicative


def slow_survival(lived: np.ndarray, ended: np.ndarray, entry: np.ndarray) -> list[tuple[float, float]]:
    survival, rows = 1.0, []
    for time in sorted(set(lived[ended])):
        at_risk = sum(1 for i in range(len(lived)) if entry[i] < time <= lived[i])
        died = sum(1 for i in range(len(lived)) if ended[i] and lived[i] == time)
        survival *= 1 - died / at_risk
        rows.append((time, survival))
    return rows


def test_kaplan_meier_with_censoring_and_delayed_entry_is_the_slow_count() -> None:
    generator = np.random.default_rng(9)
    lived = np.round(generator.exponential(10, 300), 1) + 0.1
    entry = np.where(generator.random(300) < 0.3, lived * generator.random(300) * 0.9, 0.0)
    ended = generator.random(300) < 0.7
    curve = durations.kaplan_meier(lived, ended, entry)
    slow = slow_survival(lived, ended, entry)
    assert curve["time"].to_list() == pytest.approx([row[0] for row in slow])
    assert curve["survival"].to_list() == pytest.approx([row[1] for row in slow])
    times = generator.integers(1, 4, 300)
    one_by_one = durations.kaplan_meier(*(np.repeat(values, times) for values in (lived, ended, entry)))
    assert durations.kaplan_meier(lived, ended, entry, times).equals(one_by_one)


def test_censoring_corrects_a_short_capture() -> None:
    generator = np.random.default_rng(10)
    lives = generator.exponential(60.0, 20_000)
    starts = generator.uniform(0, 60, 20_000)
    seen = np.minimum(lives, 60 - starts)
    curve = durations.kaplan_meier(seen, lives <= 60 - starts)
    naive = np.median(lives[lives <= 60 - starts])
    assert durations.survival_quantile(curve, 0.4) == pytest.approx(-60 * math.log(0.6), rel=0.05)
    assert naive < 20
    assert durations.survival_quantile(curve, 0.999) == math.inf
    assert durations.restricted_mean(curve, 30.0) == pytest.approx(60 * (1 - math.exp(-0.5)), rel=0.05)


def test_lives_of_nothing() -> None:
    curve = durations.kaplan_meier([], [])
    assert curve.is_empty()
    assert durations.survival_quantile(curve, 0.5) == math.inf
