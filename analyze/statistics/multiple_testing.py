"""Benjamini-Hochberg: the share of false findings among those reported, whatever their number."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def q_values(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values, same shape and order; NaN (a test that could not be made) stays NaN and does not count.

    Source: Benjamini and Hochberg (1995); valid for the positively dependent metrics of one capture
    (Benjamini and Yekutieli 2001).
    """
    values = np.asarray(p_values, dtype=float)
    result = np.full(values.shape, np.nan)
    known = np.isfinite(values)
    tested = np.clip(values[known], 0.0, 1.0)
    order = np.argsort(tested)
    number = len(tested)
    scaled = tested[order] * (number / np.arange(1, number + 1))
    adjusted = np.empty(number)
    # A larger p-value never has the smaller q-value.
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    result[known] = np.minimum(adjusted, 1.0)
    return result
