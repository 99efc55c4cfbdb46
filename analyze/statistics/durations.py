"""How long flows live, with those that the capture cut off counted for what is known of them.

A flow still open at the capture's end lasted *at least* so long (right-censored); one that began before it is
seen only because it lasted until then (delayed entry). Leaving them out makes lives look short.

Source: Kaplan and Meier (1958); lifelines is the test's oracle.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray


def kaplan_meier(
    durations: ArrayLike, ended: ArrayLike, entry: ArrayLike | None = None, count: ArrayLike | None = None
) -> pl.DataFrame:
    """Survival curve: columns time, at_risk, ended, survival (right-continuous), one row per distinct end.

    `durations` in any unit, `ended` false for a censored flow, `entry` the age at which a flow came into view
    (default 0), in the same unit; `count` how many flows an entry stands for (default 1).
    """
    lived = np.asarray(durations, dtype=float)
    died = np.asarray(ended, dtype=bool)
    entered = np.zeros_like(lived) if entry is None else np.asarray(entry, dtype=float)
    weights = np.ones(len(lived), dtype=np.int64) if count is None else np.asarray(count, dtype=np.int64)
    times, place = np.unique(lived[died], return_inverse=True)
    deaths = np.bincount(place, weights[died], len(times)).astype(np.int64)
    # At risk just before t: entered earlier than t (age 0 counts at once), and not yet gone.
    came = np.where(times > 0, _below(entered, weights, times), weights.sum())
    at_risk = came - _below(lived, weights, times)
    survival = np.cumprod(1.0 - deaths / np.maximum(at_risk, 1))
    return pl.DataFrame({"time": times, "at_risk": at_risk, "ended": deaths, "survival": survival})


def _below(values: NDArray[np.float64], weights: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.int64]:
    """The weight of the values below each time."""
    order = np.argsort(values)
    sums = np.concatenate([[0], np.cumsum(weights[order])])
    return sums[np.searchsorted(values[order], times, side="left")]


def survival_quantile(curve: pl.DataFrame, probability: float) -> float:
    """Age by which `probability` of the flows have ended; infinite when the capture was too short to see it."""
    reached = curve.filter(pl.col("survival") <= 1.0 - probability + 1e-12)
    return float(reached["time"][0]) if reached.height else math.inf


def restricted_mean(curve: pl.DataFrame, horizon: float) -> float:
    """Mean life up to `horizon`: the area under the survival curve."""
    inside = curve.filter(pl.col("time") < horizon)
    times = np.concatenate([[0.0], inside["time"].to_numpy(), [horizon]])
    levels = np.concatenate([[1.0], inside["survival"].to_numpy()])
    return float((np.diff(times) * levels).sum())
