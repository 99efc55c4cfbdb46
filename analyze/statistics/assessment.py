"""Two measured windows -> verdicts on every metric. Frames in (see `analyze.compare.measure`), dataclasses out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.statistics import mix
from analyze.statistics.batch_t import batch_edges
from analyze.statistics.comparison import INCONCLUSIVE, MetricVerdict, Side, decide, judge, overall
from analyze.statistics.metrics import METRICS, Metric
from analyze.statistics.quality import CaptureQuality, Gate, gate
from analyze.statistics.rare_events import Counted


@dataclass(frozen=True)
class Window:
    """What one side measured: see `analyze.compare.measure.Measured` for the frames; `seconds` is its length."""

    seconds: float
    buckets: pl.DataFrame
    counts: pl.DataFrame
    histograms: pl.DataFrame
    quality: CaptureQuality


@dataclass(frozen=True)
class Assessment:
    """The verdicts, in the order of the metrics; `verdict` is the overall one; `comparable` the least share of any
    metric's baseline that lies in strata which both sides have.
    """

    rows: tuple[MetricVerdict, ...]
    verdict: str
    gate: Gate
    comparable: float

    @property
    def mix_shift(self) -> bool:
        """Whether some metric's change is one of the mix and not of the service."""
        return any(row.mix_shift for row in self.rows if row.metric.gating)


def assess(
    baseline: Window,
    candidate: Window,
    metrics: Sequence[Metric] = METRICS,
    fail_on: Sequence[str] = (),
    paired: bool = False,
) -> Assessment:
    """Judge every metric. When the captures' quality forbids a verdict, no metric has one.

    `paired`: bucket b of one side has the time of day of bucket b of the other (see `batch_t.compare_batches`).
    """
    quality = gate(baseline.quality, candidate.quality)
    rows, shares = [], [1.0]
    for metric in metrics:
        before, after, raw, comparable = _sides(metric, baseline, candidate)
        if before is None or after is None:
            rows.append(_absent(metric))
            continue
        rows.append(judge(metric, before, after, raw, paired))
        if math.isfinite(comparable):
            shares.append(comparable)
    settled = decide(rows)
    if quality.inconclusive:
        settled = [_withheld(row, quality.inconclusive[0]) for row in settled]
    return Assessment(tuple(settled), overall(settled, fail_on), quality, min(shares))


def _sides(metric: Metric, baseline: Window, candidate: Window) -> tuple[Side | None, Side | None, float, float]:
    windows = {"baseline": baseline, "candidate": candidate}
    if metric.kind == "quantile":
        parts = [
            window.histograms.filter(pl.col("histogram") == metric.histogram).with_columns(side=pl.lit(name))
            for name, window in windows.items()
        ]
        if any(part.is_empty() for part in parts):
            return None, None, math.nan, math.nan
        series = {name: _column(window, f"log_{metric.histogram}") for name, window in windows.items()}
        result = mix.standardise_histograms(metric, pl.concat(parts), series)
        return result.baseline, result.candidate, result.raw_change, result.comparable
    if metric.kind == "rate":
        rates = {name: _rate(metric, window) for name, window in windows.items()}
        before, after = rates["baseline"], rates["candidate"]
        return before, after, after.value / before.value - 1 if before.value > 0 else math.nan, math.nan
    parts = [window.counts.with_columns(side=pl.lit(name)) for name, window in windows.items()]
    if any(part.is_empty() or not part[metric.denominator].sum() for part in parts):
        return None, None, math.nan, math.nan
    series = {name: _ratio_series(metric, window) for name, window in windows.items()}
    result = mix.standardise_ratio(metric, pl.concat(parts), series)
    counted = {
        name: Counted(_column(window, metric.numerator), _column(window, metric.denominator))
        for name, window in windows.items()
    }
    before = replace(result.baseline, counted=counted["baseline"])
    after = replace(result.candidate, counted=counted["candidate"])
    return before, after, result.raw_change, result.comparable


def _column(window: Window, name: str) -> NDArray[np.float64]:
    return window.buckets[name].cast(pl.Float64).fill_null(math.nan).to_numpy()


def _ratio_series(metric: Metric, window: Window) -> NDArray[np.float64]:
    events = _column(window, metric.numerator)
    trials = _column(window, metric.denominator)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(trials > 0, np.log((events + mix.ZERO_SHIFT) / trials), np.nan)


def _rate(metric: Metric, window: Window) -> Side:
    counts = _column(window, metric.numerator)
    seconds = window.seconds / len(counts)
    edges = batch_edges(len(counts))
    values = np.array([counts[start:stop].sum() / (max(stop - start, 1) * seconds) for start, stop in pairwise(edges)])
    return mix.rate_side(values, np.log1p(counts))


def _absent(metric: Metric) -> MetricVerdict:
    verdict = INCONCLUSIVE if metric.gating else "information"
    return MetricVerdict(metric, math.nan, math.nan, verdict, reason="the captures do not hold this measurement")


def _withheld(row: MetricVerdict, reason: str) -> MetricVerdict:
    return replace(row, verdict=INCONCLUSIVE, reason=reason) if row.metric.gating else row
