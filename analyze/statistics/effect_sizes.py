"""Effect sizes of two samples, and the exact rank test: for showing beside a verdict, never instead of it.

A rank test on flows or on autocorrelated buckets rejects far too often (see batch_t); these figures describe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import mannwhitneyu, rankdata


def common_language_effect_size(baseline: ArrayLike, candidate: ArrayLike) -> float:
    """Probability that a candidate value exceeds a baseline value, ties counted half: 0..1, 0.5 is no effect.

    Source: Vargha and Delaney (2000).
    """
    before, after = np.asarray(baseline, dtype=float), np.asarray(candidate, dtype=float)
    ranks = rankdata(np.concatenate([after, before]))
    m, n = len(after), len(before)
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def mean_ratio(baseline: ArrayLike, candidate: ArrayLike) -> float:
    """Mean of the candidate over that of the baseline; NaN when either is zero."""
    before, after = float(np.mean(np.asarray(baseline))), float(np.mean(np.asarray(candidate)))
    return after / before if before and after else float("nan")


def rank_test(baseline: ArrayLike, candidate: ArrayLike) -> float:
    """Two-sided p-value of the Mann-Whitney U test, exact for small samples without ties."""
    return float(mannwhitneyu(baseline, candidate, alternative="two-sided", method="auto").pvalue)
