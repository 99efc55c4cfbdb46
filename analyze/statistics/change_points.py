"""When a series changed level: PELT with a penalty that knows how noise lingers, and an interval for the moment.

Squared-error cost, penalty 3 ln n x long-run variance. The long-run variance is that of an AR(1) process fitted
to the residuals of a first, coarse segmentation: without it, slow noise looks like steps.

Both segmentations are exact minima, found by dynamic programming over all cuts: the one with a penalty is what PELT
finds, without its pruning, which saves nothing at a few hundred buckets.

Sources: Jackson et al. (2005) for optimal partitioning; Killick, Fearnhead and Eckley (2012) for PELT; Romano et al.
(2022) for why the penalty needs the long-run variance; Kunsch (1989) for the block bootstrap. The tests hold the
segmentations against ruptures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

PENALTY = 3.0
MINIMUM_SEGMENT = 3
MINIMUM_LENGTH = 12
BLOCK = 128  # stops at a time: the table of every start and stop would be large for a long series
# Share of the squares that a coarse segmentation with 1, 2, ... cuts must explain to be taken out of the noise: more
# than the wandering of a steady, slow series lets them explain.
COARSE_SHARES = (0.25, 0.40, 0.50, 0.60)


@dataclass(frozen=True)
class ChangePoint:
    """A new level from bucket `index` on; `low`..`high` is the 95% interval of the index.

    `before` and `after` are the means of the neighbouring segments.
    """

    index: int
    low: int
    high: int
    before: float
    after: float


def detect(series: ArrayLike, *, minimum_segment: int = MINIMUM_SEGMENT) -> list[int]:
    """Indexes at which a new level begins; empty for a short, constant or steady series.

    NaN (buckets without data) take the last value before them.
    """
    values = _filled(series)
    n = len(values)
    if n < MINIMUM_LENGTH or np.ptp(values) == 0:
        return []
    scale = values.std()
    standard = (values - values.mean()) / scale
    variance = long_run_variance(standard)
    return penalised_segmentation(standard, PENALTY * math.log(n) * variance, minimum_segment)


def long_run_variance(series: ArrayLike) -> float:
    """Long-run variance of the noise around the levels of a series: AR(1) on the residuals of a coarse cut.

    The coarse cut has at most five levels, each at least a fortieth of the series long: it takes real steps
    out and does not follow the noise.
    """
    values = np.asarray(series, dtype=float)
    levels = _coarse_levels(values)
    residuals = values - levels
    n = len(residuals)
    # Each level takes its mean and the choice of its place away from the noise.
    fitted = 2 * (1 + int((np.diff(levels) != 0).sum()))
    variance = float(residuals @ residuals) / max(n - fitted, 1)
    if variance <= 1e-12:
        return 1e-12
    correlation = float(residuals[1:] @ residuals[:-1] / (residuals @ residuals))
    # The sample autocorrelation is low by about (1 + 3 rho) / n for every level that was fitted.
    correlation = min(max(correlation + 2 * (1 + 3 * max(correlation, 0.0)) / n, 0.0), 0.97)
    return variance * (1 + correlation) / (1 - correlation)


def change_points(
    series: ArrayLike, *, seed: int = 0, repetitions: int = 200, minimum_segment: int = MINIMUM_SEGMENT
) -> list[ChangePoint]:
    """Every change point with the levels around it and a block-bootstrap interval of its place."""
    values = _filled(series)
    cuts = detect(values, minimum_segment=minimum_segment)
    edges = [0, *cuts, len(values)]
    found = []
    for left, cut, right in zip(edges[:-2], edges[1:-1], edges[2:], strict=True):
        low, high = location_interval(values[left:right], cut - left, seed=seed, repetitions=repetitions)
        found.append(
            ChangePoint(cut, left + low, left + high, float(values[left:cut].mean()), float(values[cut:right].mean()))
        )
    return found


def location_interval(
    series: ArrayLike, cut: int, *, seed: int = 0, repetitions: int = 200, confidence: float = 0.95
) -> tuple[int, int]:
    """Interval of the place of one step at `cut`: residual blocks are shuffled and the step is sought again."""
    values = np.asarray(series, dtype=float)
    n = len(values)
    levels = np.where(np.arange(n) < cut, values[:cut].mean(), values[cut:].mean())
    residuals = values - levels
    length = max(1, round(n ** (1 / 3)))
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, n, size=(repetitions, -(-n // length)))
    places = (starts[:, :, None] + np.arange(length)).reshape(repetitions, -1)[:, :n] % n
    cuts = _best_single_cut(levels + residuals[places])
    tail = (1 - confidence) / 2
    low, high = np.quantile(cuts, [tail, 1 - tail], method="nearest")
    return min(int(low), cut), max(int(high), cut)


def _best_single_cut(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row the cut with the largest between-level sum of squares."""
    n = rows.shape[1]
    sums = np.cumsum(rows, axis=1)
    sizes = np.arange(1, n)
    left = sums[:, :-1]
    right = sums[:, -1:] - left
    gain = left**2 / sizes + right**2 / (n - sizes)
    return np.argmax(gain, axis=1) + 1


def _coarse_levels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The levels of the best coarse segmentation that explains enough, the simplest first; else one level.

    Two cuts at once are tried, too: a bump in the middle shows in no single cut.
    """
    n = len(values)
    total = float(((values - values.mean()) ** 2).sum())
    least = max(MINIMUM_SEGMENT, n // 40)
    best = [0, n]
    shares = COARSE_SHARES[: n // least - 1]
    for share, inner in zip(shares, best_segmentations(values, len(shares), least), strict=True):
        cuts = [0, *inner, n]
        rest = float(((values - _levels(values, cuts)) ** 2).sum())
        if total - rest >= share * total:
            best = cuts
    return _levels(values, best)


def _levels(values: NDArray[np.float64], cuts: list[int]) -> NDArray[np.float64]:
    result = np.empty_like(values)
    for start, stop in itertools.pairwise(cuts):
        result[start:stop] = values[start:stop].mean()
    return result


def penalised_segmentation(values: NDArray[np.float64], penalty: float, least: int) -> list[int]:
    """Cuts (a segment begins there) with the least squared error + `penalty` a cut; segments have `least` buckets."""
    n = len(values)
    cost, start = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=np.int64)
    cost[0] = -penalty
    for stops, errors in _squared_errors(values, least):
        for stop, row in zip(stops, errors, strict=True):
            whole = cost[: len(row)] + row
            start[stop] = np.argmin(whole)
            cost[stop] = whole[start[stop]] + penalty
    cuts = [int(start[n])]
    while cuts[-1] > 0:
        cuts.append(int(start[cuts[-1]]))
    return cuts[-2::-1]


def best_segmentations(values: NDArray[np.float64], most: int, least: int) -> list[list[int]]:
    """For 1, 2, ... `most` cuts those with the least squared error; segments have at least `least` buckets.

    The series must be long enough for them.
    """
    n = len(values)
    cost, start = np.full((most + 1, n + 1), np.inf), np.zeros((most + 1, n + 1), dtype=np.int64)
    for stops, errors in _squared_errors(values, least):
        cost[0, stops] = errors[:, 0]
        for number in range(1, most + 1):
            whole = cost[number - 1, : errors.shape[1]] + errors
            start[number, stops] = np.argmin(whole, axis=1)
            cost[number, stops] = whole[np.arange(len(stops)), start[number, stops]]
    found = []
    for number in range(1, most + 1):
        cuts = [n]
        for left in range(number, 0, -1):
            cuts.append(int(start[left, cuts[-1]]))
        found.append(cuts[:0:-1])
    return found


def _squared_errors(values: NDArray[np.float64], least: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Squared distances of segments from their mean, a block of stops at a time: the stops, and a row for each of them
    with every start up to the last stop; infinite where the segment has fewer than `least` buckets.
    """
    n = len(values)
    sums, squares = (np.concatenate([[0.0], np.cumsum(one)]) for one in (values, values**2))
    for first in range(least, n + 1, BLOCK):
        stops = np.arange(first, min(first + BLOCK, n + 1))
        starts = np.arange(stops[-1] + 1)
        length = stops[:, None] - starts
        inside = sums[stops, None] - sums[starts]
        with np.errstate(divide="ignore", invalid="ignore"):
            errors = squares[stops, None] - squares[starts] - inside * inside / length
        errors[length < least] = np.inf
        yield stops, errors


def _filled(series: ArrayLike) -> NDArray[np.float64]:
    values = np.array(series, dtype=float)
    known = np.isfinite(values)
    if known.all() or not known.any():
        return np.where(known, values, 0.0)
    last = np.maximum.accumulate(np.where(known, np.arange(len(values)), 0))
    return np.where(known[last], values[last], values[known][0])
