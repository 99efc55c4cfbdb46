"""What moved, when, and by how much: change points of every metric's series, and the windows that they outline.

A series is one value per time bucket. A window is abnormal when a metric that has a bad direction leaves its
usual level by more than its noise and by more than matters; windows of several metrics that touch are one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyze.statistics.change_points import change_points

LEAST_SCORE = 3.0
LEAST_BUCKETS = 5  # of a window that is found without being asked for
LEAST_EVENTS = 10.0
SURPRISE = 1e-6
WIDEST_SHARE = 0.6
IQR_OF_NORMAL = 1.349
EITHER = 2  # as bad direction: a large move is news whichever way it goes


@dataclass(frozen=True)
class Series:
    """One metric over time.

    `values` are in natural units, NaN for an empty bucket. `transform` ("log", "ratio", "") makes its noise even.
    `bad_direction`: +1 more is worse, -1 less is worse, `EITHER`, or 0: never bad by itself. `least` is the
    smallest change of level that matters: relative for "log", absolute for the others; a change below `floor`, in
    natural units, never does. `events` of `trials` per bucket, where the values are their ratio: few of them prove
    little, however high the ratio.
    """

    name: str
    title: str
    values: NDArray[np.float64]
    transform: str = "log"
    bad_direction: int = 1
    least: float = 0.3
    unit: str = ""
    events: NDArray[np.float64] | None = None
    trials: NDArray[np.float64] | None = None
    floor: float = 0.0

    @property
    def even(self) -> NDArray[np.float64]:
        """The values on a scale on which the noise does not grow with the level."""
        if self.transform == "log":
            # A bucket without any is not infinitely little: half the smallest positive value stands for it.
            positive = self.values[np.isfinite(self.values) & (self.values > 0)]
            floor = positive.min() / 2 if len(positive) else 1.0
            return np.where(np.isfinite(self.values), np.log(np.maximum(self.values, floor)), np.nan)
        if self.transform == "ratio":
            return np.sqrt(np.maximum(self.values, 0.0))
        return self.values

    def level(self, where: slice | NDArray[np.bool_]) -> float:
        """The level of some buckets: events over trials, or the median of the values."""
        if self.events is not None and self.trials is not None:
            trials = float(self.trials[where].sum())
            return float(self.events[where].sum()) / trials if trials else 0.0
        return _median(self.values[where])

    def is_surprising(self, usual: NDArray[np.bool_], then: slice) -> bool:
        """Whether so many events are more than chance; always true without counts.

        Events come in clusters: they count as if half of them were repeats of another.
        """
        if self.events is None or self.trials is None or self.bad_direction < 0:
            return True
        from scipy.special import bdtrc

        rate = (float(self.events[usual].sum()) + 0.5) / max(float(self.trials[usual].sum()), 1.0)
        events, trials = float(self.events[then].sum()), float(self.trials[then].sum())
        if events < LEAST_EVENTS:
            return False
        return bool(bdtrc(events // 2 - 1, int(trials) // 2 + 1, min(rate, 1.0)) < SURPRISE)

    def moved(self, usual: float, level: float) -> bool:
        """Whether a level (natural units) differs from the usual one by what matters."""
        if abs(level - usual) < self.floor:
            return False
        if self.transform == "log":
            if usual <= 0 or level <= 0:
                return max(usual, level) > 0
            return abs(math.log(level / usual)) >= math.log1p(self.least)
        return abs(level - usual) >= self.least


@dataclass(frozen=True)
class Movement:
    """One metric's excursion: buckets `start` to `end` (exclusive; the series' length: it lasts), onset interval,
    the usual level and the level then (medians, natural units), and its size in usual IQRs.
    """

    series: Series
    start: int
    end: int
    low: int
    high: int
    usual: float
    level: float
    score: float

    @property
    def bad(self) -> bool:
        """Whether it moved in its bad direction."""
        direction = self.series.bad_direction
        return direction == EITHER or direction * (self.level - self.usual) > 0


def movements(series: Sequence[Series], seed: int = 0) -> list[Movement]:
    """Every excursion of every series from its usual level, the earliest first."""
    found = [movement for one in series for movement in _excursions(one, seed)]
    return sorted(found, key=lambda movement: (movement.start, -movement.score))


def windows(found: Sequence[Movement], buckets: int, join: int = 3) -> list[tuple[int, int, float]]:
    """Abnormal windows (start, end, score) from the bad movements, the highest score first.

    A window that covers most of the series is its usual state, not an incident; one of a few buckets is a burst.
    """
    spans = sorted((movement.start, movement.end, movement.score) for movement in found if movement.bad)
    merged: list[tuple[int, int, float]] = []
    for start, end, score in spans:
        if merged and start <= merged[-1][1] + join:
            last = merged.pop()
            merged.append((last[0], max(last[1], end), max(last[2], score)))
        else:
            merged.append((start, end, score))
    fitting = [span for span in merged if LEAST_BUCKETS <= span[1] - span[0] <= WIDEST_SHARE * buckets]
    return sorted(fitting, key=lambda span: -span[2])


def rank_score(usual: NDArray[np.float64], then: NDArray[np.float64]) -> float:
    """(median then - usual median) / usual IQR, on an even scale; the IQR is at least that of the smallest noise."""
    a, b = usual[np.isfinite(usual)], then[np.isfinite(then)]
    if len(a) < 4 or len(b) == 0:
        return 0.0
    low, high = np.quantile(a, [0.25, 0.75])
    # A metric that is nearly always the same (zero failures) has no IQR: its largest deviation stands for it.
    spread = max(float(high - low), IQR_OF_NORMAL * float(a.std()) / 2, 1e-3 * max(abs(float(np.median(a))), 1e-6))
    return float((np.median(b) - np.median(a)) / spread)


def _excursions(series: Series, seed: int) -> list[Movement]:
    even = series.even
    points = change_points(even, seed=seed)
    if not points:
        return []
    edges = [0, *(point.index for point in points), len(even)]
    spans = list(itertools.pairwise(edges))
    levels = np.array([series.level(slice(start, stop)) for start, stop in spans])
    usual_span = _usual(spans, levels, series)
    usual_mask = np.zeros(len(even), dtype=bool)
    for number in usual_span:
        usual_mask[spans[number][0] : spans[number][1]] = True
    usual = series.level(usual_mask)
    result: list[Movement] = []
    number = 0
    while number < len(spans):
        if number in usual_span:
            number += 1
            continue
        first = number
        direction = np.sign(levels[first] - usual)
        while number < len(spans) and number not in usual_span and np.sign(levels[number] - usual) == direction:
            number += 1
        start, end = spans[first][0], spans[number - 1][1]
        level = series.level(slice(start, end))
        score = abs(rank_score(even[usual_mask], even[start:end]))
        surprising = series.is_surprising(usual_mask, slice(start, end))
        if score >= LEAST_SCORE * 0.5 and surprising and series.moved(usual, level):
            point = points[first - 1] if first else None
            low, high = (point.low, point.high) if point else (0, 0)
            result.append(Movement(series, start, end, low, high, usual, level, score))
    return result


def _usual(spans: list[tuple[int, int]], levels: NDArray[np.float64], series: Series) -> set[int]:
    """The segments at the usual level: that of the longest one, the earlier when two are equally long."""
    lengths = np.array([stop - start for start, stop in spans])
    # Segments at about the same level belong together: count their buckets together.
    best, members = -1, set()
    for number in range(len(spans)):
        same = {other for other in range(len(spans)) if not series.moved(levels[number], levels[other])}
        same |= {number}
        total = int(lengths[list(same)].sum())
        if total > best:
            best, members = total, same
    return members


def _median(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0
