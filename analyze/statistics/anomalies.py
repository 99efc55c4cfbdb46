"""Counts and volumes against their own history: how surprising is the latest value?

Counts of network events are overdispersed (bursts), so they are held against a negative binomial law with the
history's mean and variance, volumes against a log-normal one; p-values are adjusted over the whole report.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from analyze.statistics.multiple_testing import q_values

MINIMUM_HISTORY = 8


def count_p_value(history: ArrayLike, count: float) -> float:
    """P(X >= count) under a negative binomial law fitted by moments; NaN with fewer than 8 past values.

    The variance is that of predicting one more value from a history of this length.
    """
    from scipy.stats import nbinom, poisson

    values = np.asarray(history, dtype=float)
    n = len(values)
    if n < MINIMUM_HISTORY:
        return float("nan")
    mean = max(float(values.mean()), 0.5 / n)
    variance = float(values.var(ddof=1)) * (1 + 1 / n) + mean / n
    if variance <= mean * 1.0001:
        return float(poisson.sf(count - 1, mean))
    size = mean**2 / (variance - mean)
    return float(nbinom.sf(count - 1, size, size / (size + mean)))


def volume_p_value(history: ArrayLike, volume: float) -> float:
    """P(X >= volume), Student t on logarithms of 1 + bytes; NaN when the history is short."""
    from scipy.stats import t as student

    values = np.log1p(np.asarray(history, dtype=float))
    n = len(values)
    if n < MINIMUM_HISTORY:
        return float("nan")
    spread = max(float(values.std(ddof=1)), 0.05)
    return float(student.sf((np.log1p(volume) - values.mean()) / (spread * np.sqrt(1 + 1 / n)), n - 1))


def surprising(table: pl.DataFrame, *, level: float = 0.05) -> pl.DataFrame:
    """Rows of `table` (it has a p_value) that survive Benjamini-Hochberg at `level`, smallest first."""
    adjusted = table.with_columns(q_value=q_values(table["p_value"].to_numpy()))
    return adjusted.filter(pl.col("q_value").is_finite() & (pl.col("q_value") < level)).sort(
        "q_value", "p_value", maintain_order=True
    )
