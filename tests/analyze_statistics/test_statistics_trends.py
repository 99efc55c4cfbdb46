"""The average of trends: its estimates are plain least squares, and it follows trends that change."""

from __future__ import annotations

import numpy as np

from analyze.statistics import trends
from analyze.statistics.forecast import forecast


def slow_fit(design: np.ndarray, y: np.ndarray, fixed: float | None) -> tuple[np.ndarray, float]:
    """Prais-Winsten of one design, row by row; coefficients and the log-likelihood without constants."""
    rho = fixed or 0.0
    for _ in range(3):
        used = rho
        x_star = [np.sqrt(1 - used**2) * design[0]] + [design[i] - used * design[i - 1] for i in range(1, len(y))]
        y_star = [np.sqrt(1 - used**2) * y[0]] + [y[i] - used * y[i - 1] for i in range(1, len(y))]
        coefficients = np.linalg.lstsq(np.array(x_star), np.array(y_star), rcond=None)[0]
        rest = y - design @ coefficients
        estimate = sum(rest[1:] * rest[:-1]) / sum(rest[:-1] ** 2)
        estimate += (2 + 4 * max(estimate, 0)) / len(y)
        rho = fixed if fixed is not None else min(max(estimate, 0.0), trends.MAXIMUM_CORRELATION)
    squares = sum((np.array(y_star) - np.array(x_star) @ coefficients) ** 2)
    return coefficients, -len(y) / 2 * np.log(squares / len(y)) + np.log(1 - used**2) / 2


def test_all_candidates_at_once_are_each_ones_least_squares() -> None:
    generator = np.random.default_rng(1)
    history = 100 + 0.5 * np.arange(40) + 4 * generator.standard_normal(40)
    candidates = trends._candidates(history, 5)
    fit = trends._fit(candidates, history)
    assert {trends.LINE, trends.BEND, trends.STEP, trends.WANDERING, *trends.PERCENT.values()} == set(candidates.names)
    for index, design in enumerate(candidates.designs[:, :40]):
        used = design.any(axis=0)
        y = np.log(history) if candidates.logarithmic[index] else history
        fixed = trends.WANDERING_CORRELATION if candidates.wandering[index] else None
        coefficients, likelihood = slow_fit(design[:, used], y, fixed)
        assert np.allclose(fit.coefficients[index][used], coefficients, rtol=1e-5, atol=1e-6)
        if candidates.logarithmic[index]:
            likelihood -= y.sum()  # the density of the series itself
        assert np.isclose(fit.likelihood[index], likelihood, rtol=1e-6)


def bent(days: int, at: int) -> np.ndarray:
    noise = np.random.default_rng(3).normal(0, 1.0, days)
    return np.asarray(100 + 3.0 * np.maximum(np.arange(days) - at, 0) + noise)


def test_a_bend_is_followed_and_a_line_alone_is_not() -> None:
    series = bent(120, 45)
    average = forecast(series[:90], 30)
    line = forecast(series[:90], 30, model=trends.single_line)
    assert average.method.startswith(trends.BEND)
    assert abs(average.growth_per_week - 7 * 3.0) < 5.0
    assert np.mean((series[90:] >= average.low) & (series[90:] <= average.high)) > 0.7
    assert np.abs(average.middle - series[90:]).mean() < np.abs(line.middle - series[90:]).mean() / 2


def test_growth_in_percent_is_told_from_a_line() -> None:
    days = np.arange(120)
    noise = np.random.default_rng(4).normal(0, 0.01, 120)
    found = forecast(100 * np.exp(0.015 * days[:90] + noise[:90]), 30)
    assert found.method.startswith(trends.PERCENT[trends.LINE])
    assert abs(found.middle[-1] / (100 * np.exp(0.015 * 119)) - 1) < 0.1


def test_series_that_touch_zero_or_never_change_are_no_error() -> None:
    for series in (np.zeros(30), np.full(30, 7.0), np.r_[np.zeros(15), np.ones(15)]):
        found = forecast(series)
        assert np.isfinite(found.low).all() and np.isfinite(found.high).all() and (found.low >= 0).all()
