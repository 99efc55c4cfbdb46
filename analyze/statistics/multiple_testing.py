"""Benjamini-Hochberg: the share of false findings among those reported, whatever their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values, same shape and order; NaN (a test that could not be made) stays NaN and does not count.

    Source: Benjamini and Hochberg (1995); valid for the positively dependent metrics of one capture
    (Benjamini and Yekutieli 2001).
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p_values, dtype=float)
    result = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    if known.any():
        result[known] = false_discovery_control(np.clip(values[known], 0.0, 1.0), method="bh")
    return result
