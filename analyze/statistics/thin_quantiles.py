"""High quantiles of few flows: their limits come from the ranks of all flows, where a batch has too few for its own.

The number of flows above a quantile is binomial, so the limits of their share, read off the distribution, are limits
of the quantile (Woodruff 1952). As in `rare_events` the flows count divided by a design effect, the burst size of those
that lie above, and weighted ones as Kish has it. The scale is that of logarithms: differences are relative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.statistics.differences import Difference
from analyze.statistics.quantiles import quantile
from analyze.statistics.rare_events import Counted, burst_size, clopper_pearson


@dataclass(frozen=True)
class Distribution:
    """One side of a quantile metric: `frame` has columns batch, bin, count, and weighted (the count at the
    baseline's mix).
    """

    frame: pl.DataFrame
    probability: float

    def quantile(self, probability: float) -> float:
        """The quantile at the baseline's mix; at least one, the least that whole microseconds can tell."""
        return max(quantile(*self._merged, probability), 1.0)

    @cached_property
    def _merged(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        merged = self.frame.group_by("bin").agg(pl.col("weighted").sum())
        return merged["bin"].to_numpy(), merged["weighted"].to_numpy()

    def above(self) -> Counted:
        """How many flows of each batch lie above the quantile."""
        merged = self.frame.group_by("bin").agg(pl.col("count").sum()).sort("bin")
        reached = merged["count"].cum_sum().to_numpy() > self.probability * (int(merged["count"].sum()) - 1)
        limit = int(merged["bin"][int(np.argmax(reached))])
        batches = self.frame.group_by("batch").agg(
            above=pl.col("count").filter(pl.col("bin") > limit).sum(), all=pl.col("count").sum()
        )
        return Counted(batches["above"].cast(pl.Float64).to_numpy(), batches["all"].cast(pl.Float64).to_numpy())

    @property
    def flows(self) -> float:
        """As many flows of equal weight as these are worth."""
        weights = self.frame.filter(pl.col("weighted") > 0)
        squares = float((weights["weighted"] ** 2 / weights["count"]).sum())
        return float(weights["weighted"].sum()) ** 2 / squares if squares > 0 else 0.0


@dataclass(frozen=True)
class ThinQuantile:
    """An `Estimate`: the logarithm of a side's quantile."""

    distribution: Distribution
    flows: float

    @property
    def value(self) -> float:
        """Logarithm of the quantile."""
        return math.log(self.distribution.quantile(self.distribution.probability))

    def limit(self, confidence: float, longer: float = 1.0) -> float:
        """Woodruff's one-sided limit; infinite where so few flows may well have none above the quantile."""
        probability, flows = self.distribution.probability, self.flows * longer
        if confidence > 0.5 and probability**flows > 1 - confidence:
            return math.inf
        share = clopper_pearson((1 - probability) * flows, flows, 1 - confidence)
        return math.log(self.distribution.quantile(1 - share))


def difference(baseline: Distribution, candidate: Distribution, widened: float = 1.0) -> Difference:
    """The difference of the logarithms of two quantiles, each of at least one flow.

    `widened` as in `batch_t`: what the batches have in common is missing in the burst size, which is theirs.
    """
    burst = burst_size(baseline.above(), candidate.above()) * widened
    return Difference(ThinQuantile(baseline, baseline.flows / burst), ThinQuantile(candidate, candidate.flows / burst))
