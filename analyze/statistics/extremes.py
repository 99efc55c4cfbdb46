"""Rare peaks: a generalised extreme value law on daily maxima, for series that jump instead of growing.

Source: Coles (2001), "An Introduction to Statistical Modeling of Extreme Values".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MINIMUM_DAYS = 14
FIRM_DAYS = 60
WIDEST_SHAPE = 0.5


@dataclass(frozen=True)
class RarePeak:
    """`level` is passed once in `days` days on average; `exceedance` is the chance to pass `limit` within `days`.

    `indicative` under 60 days of history.
    """

    level: float
    exceedance: float
    days: int
    indicative: bool


def rare_peak(daily_maxima: ArrayLike, limit: float, days: int = 30) -> RarePeak | None:
    """Fit the law to daily maxima; None under 14 days or without variation."""
    values = np.asarray(daily_maxima, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) < MINIMUM_DAYS or np.ptp(values) == 0:
        return None
    from scipy.stats import genextreme  # a second to import: only for a history that has a law

    scale = float(values.std())
    centre = float(values.mean())
    standard = (values - centre) / scale
    # The search starts at the Gumbel law of the same mean and variance.
    start = {"loc": -0.45, "scale": 0.78}
    shape, location, width = genextreme.fit(standard, 0.05, **start)
    if abs(shape) > WIDEST_SHAPE:
        # Short series give wild shapes; real traffic's maxima lie within these.
        shape, location, width = genextreme.fit(standard, f0=float(np.sign(shape) * WIDEST_SHAPE), **start)
    level = centre + scale * float(genextreme.ppf(1 - 1 / days, shape, location, width))
    daily = float(genextreme.sf((limit - centre) / scale, shape, location, width)) if math.isfinite(limit) else 0.0
    return RarePeak(level, 1 - (1 - daily) ** days, days, len(values) < FIRM_DAYS)
