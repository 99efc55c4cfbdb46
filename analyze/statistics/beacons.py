"""Beacons: how regular the contacts of one pair are in time, size, duration and over the hours of a day.

Scores and bands as RITA v5 has them: the mean of a timing, a size, a duration and a histogram score, each 0..1.
A high score is a finding to look at (an update check beacons too), never a verdict.

Source: the documentation and configuration of RITA (activecm/rita, version 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MINIMUM_UNIQUE_CONTACTS = 4
MINIMUM_ACTIVE_HOURS = 6
IDEAL_CONSECUTIVE_HOURS = 12
MINIMUM_HOURS_BIMODAL = 11
MODE_WIDTH = 0.05
HOUR = 3600.0
BANDS = ((0.9, "high"), (0.7, "medium"), (0.5, "low"))
RARE_SHARE, COMMON_SHARE, PREVALENCE_STEP = 0.02, 0.5, 0.15


@dataclass(frozen=True)
class BeaconScore:
    """The four parts and their mean; `interval` is the median time between contacts in seconds."""

    score: float
    timing: float
    size: float
    duration: float
    histogram: float
    interval: float
    contacts: int
    active_hours: int

    @property
    def band(self) -> str:
        """high from .9, medium from .7, low from .5, else none."""
        return next((name for least, name in BANDS if self.score >= least), "none")


def score(times: ArrayLike, sizes: ArrayLike, start: float, end: float) -> BeaconScore | None:
    """Score one pair from its contact times (seconds) and sizes (bytes), in a capture from `start` to `end`.

    None with fewer than four distinct contact times (whole seconds), which say nothing.
    """
    moments = np.sort(np.floor(np.asarray(times, dtype=float)))
    if len(np.unique(moments)) < MINIMUM_UNIQUE_CONTACTS or end <= start:
        return None
    intervals = np.diff(moments)
    intervals = np.sort(intervals[intervals > 0])
    counts = hourly_counts(moments, start, end)
    timing = regularity(intervals, when_tiny=1.0)
    size = regularity(np.sort(np.asarray(sizes, dtype=float)), when_tiny=0.0)
    active = int((counts > 0).sum())
    duration = duration_score(moments, counts, start, end)
    histogram = histogram_score(counts)
    return BeaconScore(
        round(float(np.mean([timing, size, duration, histogram])), 3),
        timing, size, duration, histogram, float(np.median(intervals)), len(moments), active,
    )  # fmt: skip


def regularity(values: NDArray[np.float64], when_tiny: float) -> float:
    """((1 - |Bowley skewness|) + (median - MAD) / median) / 2 of sorted values, at least 3 of them.

    `when_tiny` stands for the second part when the median is below 1.
    """
    if len(values) < 3:
        return 0.0
    first, middle, third = quartiles(values)
    spread = third - first
    # Quartiles nearer than 10, or a median on one of them, have no meaningful skewness.
    skewed = spread >= 10 and middle not in (first, third)
    skewness = (first + third - 2 * middle) / spread if skewed else 0.0
    deviation = float(np.median(np.abs(values - middle)))
    dispersion = max((middle - deviation) / middle, 0.0) if middle >= 1 else when_tiny
    return round(((1 - abs(skewness)) + dispersion) / 2, 3)


def quartiles(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Quartiles of sorted values as medians of the halves, the middle value left out of both when odd."""
    half = len(values) // 2
    return float(np.median(values[:half])), float(np.median(values)), float(np.median(values[len(values) - half :]))


def hourly_counts(moments: NDArray[np.float64], start: float, end: float) -> NDArray[np.int64]:
    """Contacts per bin: 24 equal bins over a capture of a day or more, hours for a shorter one."""
    bins = min(24, max(1, math.ceil((end - start) / HOUR - 1e-9)))
    return np.histogram(moments, bins=np.linspace(start, end, bins + 1))[0]


def duration_score(moments: NDArray[np.float64], counts: NDArray[np.int64], start: float, end: float) -> float:
    """max(share of the capture covered, longest run of active hours / 12), from 6 active hours on."""
    if (counts > 0).sum() < MINIMUM_ACTIVE_HOURS:
        return 0.0
    coverage = math.ceil((moments[-1] - moments[0]) / (end - start) * 1000) / 1000
    consistency = math.ceil(longest_run(counts) / IDEAL_CONSECUTIVE_HOURS * 1000) / 1000
    return min(1.0, max(coverage, consistency))


def longest_run(counts: NDArray[np.int64]) -> int:
    """Longest run of bins with contacts, around the end of the day."""
    best = current = 0
    for count in np.concatenate([counts, counts]):
        current = current + 1 if count > 0 else 0
        best = max(best, current)
    return min(best, len(counts))


def histogram_score(counts: NDArray[np.int64], least_active: int = MINIMUM_HOURS_BIMODAL) -> float:
    """max(1 - coefficient of variation, share of active bins in the two commonest heights less one outlier).

    The second counts from `least_active` active bins on.
    """
    mean = counts.mean()
    if mean <= 0:
        return 0.0
    flat = max(0.0, 1.0 - float(counts.std() / mean))
    active = counts[counts > 0]
    bimodal = 0.0
    if len(active) >= least_active:
        width = math.ceil(counts.max() * MODE_WIDTH)
        heights = np.sort(np.unique(active // width, return_counts=True)[1])[::-1]
        bimodal = min(1.0, float(heights[:2].sum()) / max(len(active) - 1, 1))
    return round(max(flat, bimodal), 3)


def rarity(score: float, prevalence: float) -> float:
    """The score for ranking: +.15 when at most 2% of the hosts talk to this peer, -.15 when half of them do."""
    if prevalence <= RARE_SHARE:
        return score + PREVALENCE_STEP
    return score - PREVALENCE_STEP if prevalence >= COMMON_SHARE else score
