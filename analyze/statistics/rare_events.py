"""Ratios whose events are few or none: what is the most by which such a ratio can have risen?

Logarithms of eight batches need events in every batch. Where there are fewer, a ratio has the limits of Clopper and
Pearson, with its trials divided by a design effect, which is how surveys of clusters treat rare events (Korn and
Graubard 1998); `differences` holds two of them against each other.

The design effect is the size of a burst, for events come together: the failures of a restart, the segments of one lost
flight. It is the index of dispersion of the events, by how much their number in blocks of time varies more than that
of independent ones, at its largest over blocks from one time bucket to an eighth of the window, on the side where it
is larger. It is never taken as less than `BURST` = 2: what cluster surveys plan with as long as they know nothing of
their clusters (Henderson and Sundaresan 1982), and what a retry, or the second address of a name, makes of one failure.

So without any event the ratio is below 3 * `BURST` in so many trials: the rule of three over bursts instead of events.
Bursts of more than about three of which no window has seen one are beyond this, and beyond every rule that ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from analyze.statistics.differences import Difference

BURST = 2.0
FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class Counted:
    """Events and trials of one side, per block of time (equally long arrays; a single total will do)."""

    events: NDArray[np.float64]
    trials: NDArray[np.float64]

    @property
    def ratio(self) -> float:
        """Events per trial over the whole; there is at least one trial."""
        return float(self.events.sum() / self.trials.sum())


@dataclass(frozen=True)
class RareRatio:
    """An `Estimate`: a side's ratio, whose events come in bursts of this size."""

    counted: Counted
    burst: float

    @property
    def value(self) -> float:
        """Events per trial."""
        return self.counted.ratio

    def limit(self, confidence: float, longer: float = 1.0) -> float:
        """Clopper and Pearson's one-sided limit for as many trials as there are independent ones."""
        trials = float(self.counted.trials.sum()) * longer / self.burst
        return clopper_pearson(self.value * trials, trials, confidence)


def difference(baseline: Counted, candidate: Counted) -> Difference:
    """The difference of two ratios, each with at least one trial."""
    burst = burst_size(baseline, candidate)
    return Difference(RareRatio(baseline, burst), RareRatio(candidate, burst))


def clopper_pearson(events: float, trials: float, confidence: float) -> float:
    """One-sided limit of a proportion: the upper one for a confidence above a half, else the lower one.

    Numbers of independent events and trials need not be whole.
    """
    if confidence > 0.5:
        return float(scipy.special.betaincinv(events + 1.0, trials - events, confidence)) if events < trials else 1.0
    return float(scipy.special.betaincinv(events, trials - events + 1.0, confidence)) if events > 0 else 0.0


def burst_size(*sides: Counted) -> float:
    """The design effect of the events, at least `BURST` (see above)."""
    return max([BURST, *(_dispersion(side) for side in sides)])


def _dispersion(side: Counted) -> float:
    """Largest index of dispersion over runs of 1, 2, 4, ... blocks; 1 where there is nothing to tell from."""
    events, trials = side.events, side.trials
    largest = 1.0
    while len(events) >= FEWEST_BLOCKS and events.sum() > 0:
        expected = side.ratio * trials
        spread = ((events - expected) ** 2).sum() / expected.sum()
        largest = max(largest, float(spread) * len(events) / (len(events) - 1))
        whole = len(events) // 2 * 2
        events, trials = (values[:whole].reshape(-1, 2).sum(axis=1) for values in (events, trials))
    return largest
