"""Ratios whose events are few or none: what is the most by which such a ratio can have risen?

Logarithms of eight batches need events in every batch. Where there are fewer, the difference of the two ratios has an
interval of its own: each ratio's is that of Clopper and Pearson with the trials divided by a design effect, which is
how surveys of clusters treat rare events (Korn and Graubard 1998); the two are combined as Newcombe (1998, his method
10) does, for any pair of limits (MOVER: Zou and Donner 2008).

The design effect is the size of a burst, for events come together: the failures of a restart, the segments of one lost
flight. It is the index of dispersion of the events, by how much their number in blocks of time varies more than that
of independent ones, at its largest over blocks from one time bucket to an eighth of the window, on the side where it
is larger. It is never taken as less than `BURST` = 2: what cluster surveys plan with as long as they know nothing of
their clusters (Henderson and Sundaresan 1982), and what a retry, or the second address of a name, makes of one failure.

So without any event the ratio is below 3 * `BURST` in so many trials: the rule of three over bursts instead of events.
Bursts larger than three of which no window has seen one are beyond this, and beyond every rule that ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from analyze.statistics.batch_t import CONFIDENCE, POWER

BURST = 2.0
FEWEST_BLOCKS = 8
LONGEST = 100.0  # times longer: beyond this, no capture is long enough


@dataclass(frozen=True)
class Counted:
    """Events and trials of one side, per time bucket (equally long arrays; a single total will do)."""

    events: NDArray[np.float64]
    trials: NDArray[np.float64]

    @property
    def ratio(self) -> float:
        """Events per trial over the whole; there is at least one trial."""
        return float(self.events.sum() / self.trials.sum())


def burst_size(*sides: Counted) -> float:
    """The design effect of the events, at least `BURST` (see above)."""
    return max([BURST, *(_dispersion(side) for side in sides)])


def _dispersion(side: Counted) -> float:
    """Largest index of dispersion over blocks of 1, 2, 4, ... time buckets; 1 where there is nothing to tell from."""
    events, trials = side.events, side.trials
    largest = 1.0
    while len(events) >= FEWEST_BLOCKS and events.sum() > 0:
        expected = side.ratio * trials
        spread = ((events - expected) ** 2).sum() / expected.sum()
        largest = max(largest, float(spread) * len(events) / (len(events) - 1))
        whole = len(events) // 2 * 2
        events, trials = (values[:whole].reshape(-1, 2).sum(axis=1) for values in (events, trials))
    return largest


@dataclass(frozen=True)
class Difference:
    """The candidate's ratio minus the baseline's, and how it is bounded."""

    baseline: Counted
    candidate: Counted
    burst: float

    @classmethod
    def of(cls, baseline: Counted, candidate: Counted) -> Difference:
        """The difference of two sides with at least one trial each."""
        return cls(baseline, candidate, burst_size(baseline, candidate))

    @property
    def any(self) -> bool:
        """Whether there is any event at all."""
        return bool(self.baseline.events.sum() + self.candidate.events.sum() > 0)

    def upper(self, confidence: float, longer: float = 1.0) -> float:
        """One-sided upper bound of the difference; of windows so many times longer, if they went on like this."""
        before, after = self.baseline.ratio, self.candidate.ratio
        above = self._limit(self.candidate, confidence, longer) - after
        below = before - self._limit(self.baseline, 1 - confidence, longer)
        return after - before + float(np.hypot(above, below))

    def lower(self, confidence: float) -> float:
        """One-sided lower bound of the difference."""
        return -Difference(self.candidate, self.baseline, self.burst).upper(confidence)

    def p_above(self, margin: float) -> float:
        """p-value of "the difference is at most `margin`": one minus the confidence whose lower bound is there."""
        return _tail(lambda confidence: self.lower(confidence) - margin)

    def p_below(self, margin: float) -> float:
        """p-value of "the difference is at least minus `margin`"."""
        return _tail(lambda confidence: -margin - self.upper(confidence))

    def detectable(self, margin: float) -> float:
        """The smallest rise that would have been told from `margin` with 80% power (by the normal approximation)."""
        before, sizes = self.baseline.ratio, [float(side.trials.sum()) for side in (self.baseline, self.candidate)]
        reach, rise = float(ndtri(CONFIDENCE) + ndtri(POWER)), margin
        for _ in range(50):  # the wider, the more events there are: it settles
            rise = margin + reach * np.sqrt(self.burst * (before / sizes[0] + (before + rise) / sizes[1]))
        return float(rise)

    def times_longer(self, margin: float, confidence: float) -> float:
        """How many times longer both windows must be for `upper` to fall below `margin`; infinite when they never
        would, going on like this.
        """
        longer = 1.0
        while longer <= LONGEST:
            if self.upper(confidence, longer) < margin:
                return longer
            longer *= 1.1
        return float("inf")

    def _limit(self, side: Counted, confidence: float, longer: float) -> float:
        """Clopper and Pearson's one-sided limit: the upper one for a confidence above a half, else the lower one."""
        trials = float(side.trials.sum()) * longer / self.burst
        events = side.ratio * trials
        if confidence > 0.5:
            return float(betaincinv(events + 1.0, trials - events, confidence)) if events < trials else 1.0
        return float(betaincinv(events, trials - events + 1.0, confidence)) if events > 0 else 0.0


def _tail(excess: Callable[[float], float]) -> float:
    """One minus the largest confidence at which `excess`, which falls with it, is positive; 1/2 when it never is."""
    if excess(0.5 + 1e-9) <= 0:
        return 0.5
    low, high = 1e-12, 0.5
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if excess(1 - middle) > 0 else (middle, high)
    return high
