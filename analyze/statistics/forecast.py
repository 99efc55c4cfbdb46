"""When a daily peak reaches its limit: the trends that the past allows, simulated forward, their interval calibrated.

`trends` simulates the paths. Their spread is then scaled to what past forecasts of the same series got wrong (rolling
origin, split conformal), and the coverage that results is reported. Daily peaks, not means, fill a limit.

Sources: Hyndman and Athanasopoulos, "Forecasting: principles and practice"; Lei et al. (2018) for conformal intervals.
Straight-line intervals that ignore lingering noise cover 42-76% instead of 80%.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analyze.statistics.trends import average_of_trends

INTERVAL = 0.80
MINIMUM_DAYS = 14
PATHS = 1000
SATURATED_LEVEL, SATURATED_SHARE = 0.98, 0.10


# (history, days ahead, number of paths, generator) -> uncalibrated paths (paths x days), slope per day, name.
Model = Callable[[NDArray[np.float64], int, int, np.random.Generator], tuple[NDArray[np.float64], float, str]]


@dataclass(frozen=True)
class Forecast:
    """Daily peaks ahead; arrays have one entry per day of the horizon, the first for the day after the history.

    `paths` (paths x days) are the calibrated simulations, `scale` the factor of the calibration and `coverage`
    the share of past peaks inside their intervals in the backtest (NaN when the history is too short for one).
    """

    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    growth_per_week: float
    method: str
    scale: float
    coverage: float
    paths: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True)
class Crossing:
    """Days from the end of the history until the limit is first reached; infinite: not within the horizon."""

    p10: float
    p50: float
    p90: float
    horizon: int
    probability: float


def horizon_for(days: int, asked: int | None = None) -> int:
    """How far ahead a history of so many days may be continued: half of it, or less when less is asked."""
    most = days // 2
    return most if asked is None else min(asked, most)


def forecast(peaks: ArrayLike, horizon: int | None = None, *, seed: int = 0, model: Model | None = None) -> Forecast:
    """Forecast daily peaks (shape (days,), NaN for a day without data). Raises `ValueError` under 14 days."""
    simulate = model or average_of_trends
    history = _interpolated(peaks)
    days = len(history)
    if days < MINIMUM_DAYS:
        raise ValueError(f"{days} days of history, a forecast needs {MINIMUM_DAYS}")
    ahead = max(1, horizon_for(days, horizon))
    generator = np.random.default_rng(seed)
    scale, coverage = _calibrate(history, ahead, generator, simulate)
    paths, slope, method = simulate(history, ahead, PATHS, generator)
    middle = np.median(paths, axis=0)
    paths = np.maximum(middle + scale * (paths - middle), 0.0)
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(paths, [tail, 1 - tail], axis=0)
    return Forecast(np.maximum(middle, 0.0), low, high, slope * 7.0, f"{method}, conformal", scale, coverage, paths)


def first_crossing(prediction: Forecast, limit: float) -> Crossing:
    """Days until simulated peaks first reach `limit`: the day by which 10, 50 and 90% of the paths have."""
    reached = prediction.paths >= limit
    crossed = reached.any(axis=1)
    days = np.where(crossed, reached.argmax(axis=1) + 1.0, np.inf)
    p10, p50, p90 = (float(np.quantile(days, p, method="higher")) for p in (0.1, 0.5, 0.9))
    return Crossing(p10, p50, p90, prediction.paths.shape[1], float(crossed.mean()))


def backtest(peaks: ArrayLike, horizon: int | None = None, *, seed: int = 0, origins: int = 12) -> float:
    """Share of peaks inside the interval that would have been forecast for them, over rolling origins; NaN if none."""
    history = _interpolated(peaks)
    ahead = horizon_for(len(history), horizon)
    return _calibrate(history, ahead, np.random.default_rng(seed), average_of_trends, origins)[1]


def is_saturated(peaks: ArrayLike, limit: float) -> bool:
    """Whether the series presses against its limit on a tenth of its days: demand is then cut off, not seen."""
    values = np.asarray(peaks, dtype=float)
    values = values[np.isfinite(values)]
    return bool(len(values) and np.mean(values >= SATURATED_LEVEL * limit) >= SATURATED_SHARE)


def after_last_resize(limits: ArrayLike) -> int:
    """Index of the first day of the present limit: what was before a resize does not continue."""
    values = np.asarray(limits, dtype=float)
    changed = np.flatnonzero(np.abs(np.diff(values)) > 1e-9 * np.maximum(np.abs(values[1:]), 1.0))
    return int(changed[-1]) + 1 if len(changed) else 0


def _calibrate(
    history: NDArray[np.float64], ahead: int, generator: np.random.Generator, simulate: Model, origins: int = 12
) -> tuple[float, float]:
    """Scale of the interval and the coverage reached, both from forecasts made at earlier days of the history.

    The coverage of an origin uses the scale known from the origins before it only.
    """
    days = len(history)
    first = max(MINIMUM_DAYS, days // 3)
    places = np.unique(np.linspace(first, days - 2, origins).astype(int)) if days - 2 > first else np.array([], int)
    tail = (1 - INTERVAL) / 2
    scores: list[NDArray[np.float64]] = []
    hits, total = 0, 0
    for origin in places:
        actual = history[origin : origin + ahead]
        paths, _, _ = simulate(history[:origin], len(actual), 200, generator)
        low, middle, high = np.quantile(paths, [tail, 0.5, 1 - tail], axis=0)
        half = np.where(actual >= middle, high - middle, middle - low)
        score = np.abs(actual - middle) / np.maximum(half, 1e-12)
        known = _scale(scores, days, ahead)
        hits += int((score <= known).sum())
        total += len(score)
        scores.append(score)
    return _scale(scores, days, ahead), hits / total if total else math.nan


def _scale(scores: list[NDArray[np.float64]], days: int, ahead: int) -> float:
    """The factor at which the interval would have held its share of the past, drawn towards 1 when little is known.

    Errors of overlapping forecasts repeat each other: only about one window per horizon is news.
    """
    if not scores:
        return 1.0
    pooled = np.concatenate(scores)
    raw = float(np.quantile(pooled, min(1.0, INTERVAL * (1 + 1 / len(pooled)))))
    news = 1.0 + len(pooled) / max(ahead, 1) / 2.0
    weight = news / (news + 4.0)
    return float(np.clip(math.exp(weight * math.log(max(raw, 1e-3))), 0.8, 4.0))


def _interpolated(peaks: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(peaks, dtype=float)
    known = np.flatnonzero(np.isfinite(values))
    if len(known) == 0:
        return np.empty(0)
    values = values[known[0] : known[-1] + 1]
    known = known - known[0]
    return np.interp(np.arange(len(values)), known, values[known])
