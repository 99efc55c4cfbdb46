"""The difference of two estimates whose own limits are known: bounds and p-values without assuming a normal law.

The limits are combined as Newcombe (1998, his method 10) does for proportions, and Zou and Donner (2008, MOVER) for any
estimates: the upper bound of the difference lies as far above it as the candidate's upper limit above its estimate and
the baseline's lower limit below its own, joined at right angles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import scipy

from analyze.statistics.batch_t import CONFIDENCE, POWER

LONGEST = 100.0  # times longer: beyond this, no capture is long enough


class Estimate(Protocol):
    """A value with one-sided limits: the upper one for a confidence above a half, else the lower one.

    `longer`: what the limit would be after so many times the capture, if it went on like this.
    """

    @property
    def value(self) -> float: ...

    def limit(self, confidence: float, longer: float = 1.0) -> float: ...


@dataclass(frozen=True)
class Difference:
    """The candidate's value minus the baseline's."""

    baseline: Estimate
    candidate: Estimate

    @property
    def value(self) -> float:
        """The difference itself."""
        return self.candidate.value - self.baseline.value

    def upper(self, confidence: float, longer: float = 1.0) -> float:
        """One-sided upper bound; of captures so many times longer, if they went on like this."""
        above = self.candidate.limit(confidence, longer) - self.candidate.value
        below = self.baseline.value - self.baseline.limit(1 - confidence, longer)
        return self.value + math.hypot(above, below)

    def lower(self, confidence: float) -> float:
        """One-sided lower bound."""
        return -Difference(self.candidate, self.baseline).upper(confidence)

    def p_above(self, margin: float) -> float:
        """p-value of "the difference is at most `margin`": one minus the confidence whose lower bound is there."""
        return _tail(lambda confidence: self.lower(confidence) - margin)

    def p_below(self, margin: float) -> float:
        """p-value of "the difference is at least minus `margin`"."""
        return _tail(lambda confidence: -margin - self.upper(confidence))

    def detectable(self, margin: float) -> float:
        """The smallest difference that would have been told from `margin` with 80% power, by the width of the bound."""
        reach = float(1 + scipy.special.ndtri(POWER) / scipy.special.ndtri(CONFIDENCE))
        return margin + reach * (self.value - self.lower(CONFIDENCE))

    def times_longer(self, margin: float) -> float:
        """How many times longer both captures must be for `upper` to fall below `margin`; infinite when they never
        would, going on like this.
        """
        longer = 1.0
        while longer <= LONGEST:
            if self.upper(CONFIDENCE, longer) < margin:
                return longer
            longer *= 1.1
        return math.inf


def _tail(excess: Callable[[float], float]) -> float:
    """One minus the largest confidence at which `excess`, which falls with it, is positive; 1/2 when it never is."""
    if excess(0.5 + 1e-9) <= 0:
        return 0.5
    low, high = 1e-12, 0.5
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if excess(1 - middle) > 0 else (middle, high)
    return high
