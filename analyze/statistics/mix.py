"""Mix shift: a change of who asks, told apart from a change of how it goes.

Strata are service x peer group x direction. The candidate is reweighted to the baseline's shares of the
strata, stratum by stratum, and the verdict is on that standardised effect (direct standardisation; Simpson's
paradox is its extreme case). Strata that only one side has cannot be compared: they are left out of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.statistics.batch_t import BATCHES
from analyze.statistics.comparison import Side
from analyze.statistics.metrics import Metric
from analyze.statistics.quantiles import quantile
from analyze.statistics.thin_quantiles import Distribution

ZERO_SHIFT = 0.5  # added to a ratio's numerator, so that no events have a logarithm
LEAST_IN_STRATUM = 20


@dataclass(frozen=True)
class Standardised:
    """Both sides of a metric after reweighting, the raw change, and the share of the baseline that was comparable."""

    baseline: Side
    candidate: Side
    raw_change: float
    comparable: float


def stratum_weights(counts: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """Weights that give each side the baseline's shares.

    `counts`: columns side ("baseline", "candidate"), stratum, count. Returns a frame (side, stratum, weight)
    and the share of the baseline's count that lies in strata which both sides have.
    """
    wide = (
        counts.group_by("stratum")
        .agg(
            pl.col("count").filter(pl.col("side") == "baseline").sum().alias("baseline"),
            pl.col("count").filter(pl.col("side") == "candidate").sum().alias("candidate"),
        )
        .with_columns(common=(pl.col("baseline") >= LEAST_IN_STRATUM) & (pl.col("candidate") >= LEAST_IN_STRATUM))
    )
    total = float(wide["baseline"].sum())
    shared = wide.filter(pl.col("common"))
    if shared.is_empty():
        # Too thin to standardise at all: compare as it is.
        weights = wide.select("stratum", baseline_weight=pl.lit(1.0), candidate_weight=pl.lit(1.0))
        comparable = 0.0
    else:
        base, other = float(shared["baseline"].sum()), float(shared["candidate"].sum())
        weights = wide.select(
            "stratum",
            baseline_weight=pl.when("common").then(1.0).otherwise(0.0),
            candidate_weight=pl.when("common")
            .then((pl.col("baseline") / base) / (pl.col("candidate") / other))
            .otherwise(0.0),
        )
        comparable = base / total if total else 0.0
    long = weights.unpivot(index="stratum", variable_name="side", value_name="weight").with_columns(
        pl.col("side").str.replace("_weight", "")
    )
    return long, comparable


def standardise_histograms(
    metric: Metric, histograms: pl.DataFrame, series: dict[str, NDArray[np.float64]]
) -> Standardised:
    """A quantile metric from `histograms`: columns side, batch (0..7), stratum, bin, count."""
    counts = histograms.group_by("side", "stratum").agg(pl.col("count").sum())
    weights, comparable = stratum_weights(counts)
    weighted = histograms.join(weights, on=["side", "stratum"], how="left").with_columns(
        weighted=pl.col("count") * pl.col("weight")
    )
    sides = {side: _quantile_side(metric, weighted, side, series[side]) for side in ("baseline", "candidate")}
    raw = {}
    for side in sides:
        own = weighted.filter(pl.col("side") == side)
        raw[side] = quantile(own["bin"].to_numpy(), own["count"].to_numpy(), metric.probability)
    return Standardised(sides["baseline"], sides["candidate"], _change(raw["baseline"], raw["candidate"]), comparable)


def standardise_ratio(metric: Metric, counts: pl.DataFrame, series: dict[str, NDArray[np.float64]]) -> Standardised:
    """A ratio metric from `counts`: columns side, batch (0..7), stratum, and the metric's numerator and denominator."""
    frame = counts.select(
        "side", "batch", "stratum", events=pl.col(metric.numerator), trials=pl.col(metric.denominator)
    )
    weights, comparable = stratum_weights(frame.group_by("side", "stratum").agg(pl.col("trials").sum().alias("count")))
    weighted = frame.join(weights, on=["side", "stratum"], how="left")
    sides = {side: _ratio_side(weighted.filter(pl.col("side") == side), series[side]) for side in series}
    raw = {side: _ratio(weighted.filter(pl.col("side") == side), weighted=False) for side in series}
    return Standardised(sides["baseline"], sides["candidate"], _change(raw["baseline"], raw["candidate"]), comparable)


def rate_side(values: NDArray[np.float64], series: NDArray[np.float64]) -> Side:
    """A rate metric from its batch values (per second)."""
    return Side(float(values.mean()) if len(values) else math.nan, values, np.full(len(values), np.inf), series)


def _quantile_side(metric: Metric, weighted: pl.DataFrame, side: str, series: NDArray[np.float64]) -> Side:
    own = weighted.filter(pl.col("side") == side).sort("bin")
    batch, bins, count, weight = (own[name].to_numpy() for name in ("batch", "bin", "count", "weighted"))
    values, support = np.full(BATCHES, np.nan), np.zeros(BATCHES)
    for index in np.unique(batch):
        inside = batch == index
        # Times are whole microseconds: 0 stands for less than one, and has no logarithm.
        values[index] = max(quantile(bins[inside], weight[inside], metric.probability), 1.0)
        support[index] = float(count[inside].sum())
    distribution = Distribution(own.select("batch", "bin", "count", "weighted"), metric.probability)
    return Side(quantile(bins, weight, metric.probability), values, support, series, distribution=distribution)


def _ratio_side(own: pl.DataFrame, series: NDArray[np.float64]) -> Side:
    values, support = np.full(BATCHES, np.nan), np.zeros(BATCHES)
    for (batch,), part in own.group_by("batch"):
        index = int(str(batch))
        values[index] = _ratio(part)
        support[index] = float(part["events"].sum())
    return Side(_ratio(own), values, support, series)


def _ratio(frame: pl.DataFrame, weighted: bool = True) -> float:
    weight = frame["weight"] if weighted else 1.0
    trials = float((frame["trials"] * weight).sum())
    return (float((frame["events"] * weight).sum()) + ZERO_SHIFT) / trials if trials > 0 else math.nan


def _change(before: float, after: float) -> float:
    return after / before - 1.0 if before > 0 and math.isfinite(after) else math.nan
