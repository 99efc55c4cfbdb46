"""Which slices of the traffic explain a change: risk ratios that are tested, not only large.

A slice is a value of a dimension or a pair of them. `bad` of its `total` flows show the symptom; the rest of
the traffic is the comparison. Slices are chosen by their *total* before any test (choosing by `bad` would find
something in pure noise), tested with the one-sided Fisher test and Benjamini-Hochberg, and what survives must
hold when time buckets are resampled, because flows of one bucket are not independent.

Sources: Bailis et al. (2017, MacroBase) for the risk ratio; Katz et al. (1978) for its interval.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.statistics.multiple_testing import q_values

MINIMUM_TOTAL = 20
MINIMUM_BAD = 3
SIGNIFICANT = 0.05
MINIMUM_RISK_RATIO = 1.2
RESAMPLES = 400
TERMS = 4096  # of a tail, at a time

COUNTS = ("bad", "total", "baseline_bad", "baseline_total")


def risk_ratio(bad: float, total: float, other_bad: float, other_total: float) -> float:
    """Risk in the slice over the risk outside; infinite when nothing is bad outside, 0 when nothing is inside."""
    if total <= 0 or bad <= 0 or other_total <= 0:
        return 0.0
    return math.inf if other_bad <= 0 else (bad / total) / (other_bad / other_total)


def katz_interval(
    bad: float, total: float, other_bad: float, other_total: float, z: float = 1.959964
) -> tuple[float, float]:
    """Katz's log interval (95% by default) of the risk ratio; +0.5 on both numerators when one is zero."""
    if total <= 0 or other_total <= 0:
        return 0.0, math.inf
    a, b = (bad, other_bad) if bad > 0 and other_bad > 0 else (bad + 0.5, other_bad + 0.5)
    centre = math.log((a / total) / (b / other_total))
    error = math.sqrt(max(1 / a - 1 / total + 1 / b - 1 / other_total, 0.0))
    return math.exp(centre - z * error), math.exp(centre + z * error)


def prefilter(table: pl.DataFrame, minimum_total: int = MINIMUM_TOTAL, most: int = 2000) -> pl.DataFrame:
    """The slices worth testing: those with the most flows in both windows together, whatever their symptoms."""
    together = pl.col("total") + pl.col("baseline_total")
    return table.filter(together >= minimum_total).sort(together, descending=True, maintain_order=True).head(most)


def rank(table: pl.DataFrame) -> pl.DataFrame:
    """Ranked slices that explain the symptom, not yet confirmed (see `confirm`).

    `table`: columns dimension, value, bad, total (the incident window) and baseline_bad, baseline_total. The
    whole traffic of the window is the row with dimension "" (the empty string).

    Returns the survivors with support (share of the window's flows), risk_ratio, low, high, q_value and
    share_of_change (of the excess over the baseline's rate), the best first.
    """
    whole = table.filter(pl.col("dimension") == "")
    if whole.is_empty():
        raise ValueError("the table has no row for the whole traffic (dimension '')")
    whole_counts = {name: float(whole[name][0] or 0) for name in COUNTS}
    candidates = prefilter(table.filter(pl.col("dimension") != "").with_columns(pl.col(COUNTS).fill_null(0)))
    if candidates.is_empty() or whole_counts["bad"] < MINIMUM_BAD:
        return _nothing(candidates)
    bad = candidates["bad"].to_numpy().astype(float)
    total = candidates["total"].to_numpy().astype(float)
    p_values = _fisher(bad, total, whole_counts["bad"], whole_counts["total"])
    measured = _measure(candidates, bad, total, whole_counts).with_columns(q_value=q_values(p_values))
    survivors = measured.filter(
        (pl.col("q_value") < SIGNIFICANT)
        & (pl.col("risk_ratio") >= MINIMUM_RISK_RATIO)
        & (pl.col("bad") >= MINIMUM_BAD)
        # What was as bad before explains no change.
        & (pl.col("excess") > 0)
    )  # fmt: skip
    # The slice that holds the change and little else: its share of it, discounted by how far it reaches.
    score = pl.col("share_of_change").clip(0, 1) * (1 - 1 / pl.col("risk_ratio")) * (1 - pl.col("support"))
    return survivors.with_columns(score=score).sort(
        ["score", "risk_ratio", "dimension", "value"], descending=[True, True, False, False]
    )


def _fisher(bad: NDArray[np.float64], total: NDArray[np.float64], all_bad: float, all_total: float) -> NDArray:
    """One-sided Fisher p-values: P(X >= bad) for the hypergeometric law of each slice."""
    return np.array([hypergeometric_tail(b, t, all_bad, all_total) for b, t in zip(bad, total, strict=True)])


def hypergeometric_tail(least: float, drawn: float, marked: float, whole: float) -> float:
    """P(X >= `least`): of `whole`, `marked` are marked and `drawn` are drawn without putting back.

    The smaller tail is summed from its largest term outwards, by the ratio of neighbours, until terms no longer count.
    """
    least, drawn, marked, whole = round(least), round(drawn), round(marked), round(whole)
    lowest, highest = max(0, drawn + marked - whole), min(drawn, marked)
    if least <= lowest:
        return 1.0
    if least > highest:
        return 0.0
    if least > drawn * marked / whole:
        return _tail(least, highest, drawn, marked, whole)
    # The lower tail is the upper one of what is drawn and not marked.
    return 1.0 - _tail(drawn - least + 1, drawn - lowest, drawn, whole - marked, whole)


def _tail(first: int, last: int, drawn: int, marked: int, whole: int) -> float:
    from scipy.special import gammaln

    def choose(n: int, k: int) -> float:
        return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

    largest = math.exp(choose(marked, first) + choose(whole - marked, drawn - first) - choose(whole, drawn))
    total, term = 1.0, 1.0
    for low in range(first, last, TERMS):
        k = np.arange(low, min(low + TERMS, last), dtype=float)
        terms = term * np.cumprod((marked - k) / (k + 1) * (drawn - k) / (whole - marked - drawn + k + 1))
        total += float(terms.sum())
        term = float(terms[-1])
        if term < 1e-17 * total:
            break
    return min(largest * total, 1.0)


def _measure(
    candidates: pl.DataFrame, bad: NDArray[np.float64], total: NDArray[np.float64], whole: dict[str, float]
) -> pl.DataFrame:
    rows = [
        (risk_ratio(b, t, whole["bad"] - b, whole["total"] - t),
         *katz_interval(b, t, whole["bad"] - b, whole["total"] - t))
        for b, t in zip(bad, total, strict=True)
    ]  # fmt: skip
    ratio, low, high = (np.array(column) for column in zip(*rows, strict=True))
    rate = whole["baseline_bad"] / whole["baseline_total"] if whole["baseline_total"] else 0.0
    change = whole["bad"] - rate * whole["total"]
    before_total = candidates["baseline_total"].to_numpy().astype(float)
    before_bad = candidates["baseline_bad"].to_numpy().astype(float)
    own_rate = np.divide(before_bad, before_total, out=np.full(len(bad), rate), where=before_total > 0)
    excess = bad - own_rate * total
    return candidates.with_columns(
        support=total / max(whole["total"], 1.0),
        risk_ratio=ratio,
        low=low,
        high=high,
        excess=excess,
        # Elsewhere it may have become better: then the slice holds more than the whole change.
        share_of_change=excess / np.maximum(np.maximum(change, excess), 1e-9),
    )


def confirm(ranked: pl.DataFrame, buckets: pl.DataFrame, *, seed: int = 0) -> pl.DataFrame:
    """The slices whose risk ratio stays above 1 in 95% of the resamples of the time buckets, in the same order.

    `buckets`: columns dimension, value, bucket, bad, total in the incident window, with the row of the whole
    traffic (dimension "") for every bucket. Fewer than four buckets cannot be resampled: nothing is confirmed.
    """
    index = sorted(buckets["bucket"].unique().to_list())
    if len(index) < 4 or ranked.is_empty():
        return ranked.head(0)
    position = {bucket: number for number, bucket in enumerate(index)}
    grouped = {(key[0], key[1]): part for key, part in buckets.group_by("dimension", "value")}
    whole_bad, whole_total = _dense(next(part for key, part in grouped.items() if key[0] == ""), position)
    draws = np.random.default_rng(seed).integers(0, len(index), size=(RESAMPLES, len(index)))
    every_bad, every_total = whole_bad[draws].sum(axis=1), whole_total[draws].sum(axis=1)
    kept = []
    for dimension, value in ranked.select("dimension", "value").iter_rows():
        part = grouped.get((dimension, value))
        if part is None:
            kept.append(False)
            continue
        bad, total = _dense(part, position)
        inside_bad, inside_total = bad[draws].sum(axis=1), total[draws].sum(axis=1)
        inside = (inside_bad + 0.5) / np.maximum(inside_total, 1.0)
        outside = (every_bad - inside_bad + 0.5) / np.maximum(every_total - inside_total, 1.0)
        kept.append(bool(np.quantile(inside / outside, SIGNIFICANT) > 1.0))
    return ranked.filter(pl.Series(kept))


def _dense(part: pl.DataFrame, position: dict[object, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bad, total = np.zeros(len(position)), np.zeros(len(position))
    places = [position[bucket] for bucket in part["bucket"].to_list()]
    np.add.at(bad, places, part["bad"].to_numpy().astype(float))
    np.add.at(total, places, part["total"].to_numpy().astype(float))
    return bad, total


def _nothing(candidates: pl.DataFrame) -> pl.DataFrame:
    names = ("support", "risk_ratio", "low", "high", "excess", "share_of_change", "q_value", "score")
    return candidates.head(0).with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in names)
