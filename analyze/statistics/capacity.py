"""The formulas of capacity: what is billed, what is concurrent, what a limit leaves.

Sources: Little (1961) for concurrency; Linux's ephemeral range 32768-60999 (28,232 ports) and TIME_WAIT of 60 s
for the ceiling of new connections to one server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPHEMERAL_PORTS = 28_232
TIME_WAIT_SECONDS = 60.0
BILLING_INTERVAL_SECONDS = 300.0
BURST_BINS_SECONDS = (1, 10, 60, 300, 3600)
LITTLE_TOLERANCE = 0.20
BENDS_APART = 10  # the bend is searched for: about so many of the places tried are different questions


def billing_95th(first: ArrayLike, second: ArrayLike | None = None) -> float:
    """Billed rate of a link from its 5-minute average rates, one array per direction; any unit of rate.

    The top 5% of the samples are dropped (of 8,640: 432) and the next highest is billed; the higher direction
    counts. NaN without samples.
    """
    return max(
        (_billed(np.asarray(side, dtype=float)) for side in (first, second) if side is not None), default=math.nan
    )


def _billed(samples: NDArray[np.float64]) -> float:
    if len(samples) == 0:
        return math.nan
    dropped = int(len(samples) * 0.05 + 1e-9)
    return float(np.sort(samples)[::-1][dropped])


def concurrency(rate: float, mean_life: float, timeout: float = 0.0) -> float:
    """Little's law: mean number of entries = arrivals per second x (mean life + timeout), both in seconds."""
    return rate * (mean_life + timeout)


def little_gap(predicted: float, observed: float) -> float:
    """Relative gap of Little's prediction to a counted value; above 20% the data contradict each other."""
    return abs(predicted - observed) / observed if observed > 0 else math.nan


def churn_ceiling(ports: int = EPHEMERAL_PORTS, hold: float = TIME_WAIT_SECONDS) -> float:
    """New connections per second that one source address can open to one server address and port, for long."""
    return ports / hold


def link_utilisation(bytes_in_bin: ArrayLike, seconds: float, bits_per_second: float) -> NDArray[np.float64]:
    """Share of a link's speed, per bin of `seconds`: 8 bytes / (dt x speed)."""
    return 8.0 * np.asarray(bytes_in_bin, dtype=float) / (seconds * bits_per_second)


def burst_ratios(per_second: ArrayLike, bins: tuple[int, ...] = BURST_BINS_SECONDS) -> dict[int, float]:
    """Peak over mean rate by bin size in seconds, from one value per second; bins over half the series are left out.

    Bursts shorter than a second cannot be seen in any interval counter: show drops beside it.
    """
    values = np.asarray(per_second, dtype=float)
    mean = values.mean() if len(values) else 0.0
    ratios: dict[int, float] = {}
    for size in bins:
        whole = len(values) // size
        if whole >= (1 if size == 1 else 2) and mean > 0:
            ratios[size] = float(values[: whole * size].reshape(whole, size).mean(axis=1).max() / mean)
    return ratios


def headroom(peak_upper_bound: float, limit: float) -> float:
    """Share of the limit that is left at the upper bound of the peak; negative when it does not fit."""
    return 1.0 - peak_upper_bound / limit if limit > 0 else math.nan


def peak_after(peak: float, *, growth: float = 0.0, hosts: int = 1, lost: int = 0) -> float:
    """One host's peak when traffic grows by `growth` (0.5 is +50%) and the load of `lost` of `hosts` moves to the rest.

    Infinite when no host is left.
    """
    if lost >= hosts:
        return math.inf
    return peak * (1.0 + growth) * hosts / (hosts - lost)


@dataclass(frozen=True)
class Knee:
    """Where queueing begins: `utilisation` (0..1) of the bend, the slopes on both sides, and the p-value of a bend."""

    utilisation: float
    slope_below: float
    slope_above: float
    p_value: float


def knee(utilisation: ArrayLike, queueing: ArrayLike, least_points: int = 30, level: float = 0.01) -> Knee | None:
    """Segmented regression of queueing delay (sRTT - minRTT) on utilisation, in order of time: one bend, by search.

    None when there are too few points, no spread, or no bend upwards that is significant at `level` both by the F test
    against a line and by the t test of the bend with errors that may linger and grow with utilisation, as queues' do.
    Sources: Muggeo (2003), the bend's own parameter counts in the F test; Newey and West (1987) for the covariance.
    """
    from scipy.special import fdtrc, ndtr

    x, y = np.asarray(utilisation, dtype=float), np.asarray(queueing, dtype=float)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    n = len(x)
    if n < least_points or np.ptp(x) < 0.05:
        return None
    line = np.column_stack([np.ones(n), x])
    squares_line = _squares(line, y)[0]
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for bend in np.quantile(x, np.linspace(0.1, 0.9, 41)):
        squares, coefficients = _squares(np.column_stack([line, np.maximum(x - bend, 0.0)]), y)
        if best is None or squares < best[0]:
            best = (squares, float(bend), coefficients)
    assert best is not None
    squares, bend, coefficients = best
    if squares <= 0 or coefficients[2] <= 0:
        return None
    statistic = ((squares_line - squares) / 2) / (squares / (n - 4))
    bent = np.column_stack([line, np.maximum(x - bend, 0.0)])
    error = _lingering_error(bent, y - bent @ coefficients)
    robust = min(1.0, BENDS_APART * float(ndtr(-coefficients[2] / error))) if error > 0 else 0.0
    p_value = max(float(fdtrc(2, n - 4, statistic)), robust)
    if p_value > level:
        return None
    return Knee(bend, float(coefficients[1]), float(coefficients[1] + coefficients[2]), p_value)


def _lingering_error(design: NDArray[np.float64], residuals: NDArray[np.float64]) -> float:
    """Newey-West standard error of the last coefficient."""
    n, width = design.shape
    scores = design * residuals[:, None]
    lags = math.ceil(math.sqrt(n))
    meat = scores.T @ scores
    for lag in range(1, lags + 1):
        cross = scores[lag:].T @ scores[:-lag]
        meat += (1 - lag / (lags + 1)) * (cross + cross.T)
    bread = np.linalg.pinv(design.T @ design)
    return math.sqrt(max(float((bread @ meat @ bread)[-1, -1]) * n / (n - width), 0.0))


def _squares(design: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(((y - design @ coefficients) ** 2).sum()), np.asarray(coefficients, dtype=np.float64)
