"""Quantiles from histograms with relative error: they merge by adding counts, in SQL as here.

A positive value falls into bin ceil(ln x / ln gamma), gamma = 1.01/0.99, and every bin stands for its
midpoint 2 gamma^b / (gamma + 1): the estimate is within 1% of the true quantile. Values <= 0 have a bin of
their own. Quantiles themselves are never averaged.

Source: DDSketch (Masson, Rim, Lee 2019), which is the test's oracle.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

RELATIVE_ERROR = 0.01
GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
LOG_GAMMA = math.log(GAMMA)
NOT_POSITIVE = -32_767  # the bin of values <= 0; below every real one, and all fit 16 bits


def bin_of(values: ArrayLike) -> NDArray[np.int64]:
    """Bin of each value; NaN is not allowed (leave nulls out before)."""
    numbers = np.asarray(values, dtype=float)
    bins = np.full(numbers.shape, NOT_POSITIVE, dtype=np.int64)
    positive = numbers > 0
    bins[positive] = np.ceil(np.log(numbers[positive]) / LOG_GAMMA).astype(np.int64)
    return bins


def value_of(bins: ArrayLike) -> NDArray[np.float64]:
    """The value that each bin stands for, in the unit that went in; 0 for the bin of values <= 0."""
    numbers = np.asarray(bins, dtype=float)
    return np.where(numbers == NOT_POSITIVE, 0.0, 2.0 * np.exp(numbers * LOG_GAMMA) / (GAMMA + 1.0))


def bin_sql(expression: str) -> str:
    """SQL text for the bin of a numeric expression, null for null: plain functions that every engine has."""
    return (
        f"CASE WHEN {expression} <= 0 THEN {NOT_POSITIVE} "
        f"ELSE CAST(CEIL(LN({expression}) / {LOG_GAMMA!r}) AS SMALLINT) END"
    )


def merge(*histograms: pl.DataFrame) -> pl.DataFrame:
    """Sum of histograms with columns `bin` and `count` (both integers or a weighted float count), sorted by bin."""
    return pl.concat(histograms, how="vertical_relaxed").group_by("bin").agg(pl.col("count").sum()).sort("bin")


def quantile(bins: ArrayLike, counts: ArrayLike, probability: float) -> float:
    """The quantile of a histogram (counts may be weights); NaN when it is empty.

    The rank is the lower one, `probability * (n - 1)`, as DDSketch has it.
    """
    weights = np.asarray(counts, dtype=float)
    order = np.argsort(np.asarray(bins))
    total = weights.sum()
    if total <= 0:
        return math.nan
    cumulative = np.cumsum(weights[order])
    rank = probability * max(total - 1.0, 0.0)
    index = min(int(np.searchsorted(cumulative, rank, side="right")), len(order) - 1)
    return float(value_of(np.asarray(bins)[order][index : index + 1])[0])


def cumulative_distribution(bins: ArrayLike, counts: ArrayLike) -> pl.DataFrame:
    """Points (`value`, `share` of the values up to it) of a histogram's distribution function, for a chart."""
    order = np.argsort(np.asarray(bins))
    weights = np.asarray(counts, dtype=float)[order]
    total = weights.sum()
    if total <= 0:
        return pl.DataFrame({"value": [], "share": []}, schema={"value": pl.Float64, "share": pl.Float64})
    return pl.DataFrame({"value": value_of(np.asarray(bins)[order]), "share": np.cumsum(weights) / total})
