"""From batches to verdicts: did it get worse, by how much, and could this comparison have seen it?

Per metric: regressed when "the bad effect is at most delta" is rejected (Benjamini-Hochberg q < .05 over the
gating metrics), improved is its mirror, pass when the one-sided 95% upper bound of the bad effect stays below
delta, else inconclusive. Missing data is never a pass. Where the batches have too few events or flows, a ratio is
judged by `rare_events` and a quantile by `thin_quantiles`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analyze.statistics import rare_events, thin_quantiles
from analyze.statistics.batch_t import BATCHES, CONFIDENCE, WIDEST, autocorrelation_time, compare_batches, widening
from analyze.statistics.differences import Difference
from analyze.statistics.metrics import MINIMUM_BUCKETS, Metric
from analyze.statistics.multiple_testing import q_values
from analyze.statistics.rare_events import Counted
from analyze.statistics.thin_quantiles import Distribution

SIGNIFICANT = 0.05
REGRESSED, IMPROVED, PASS, INCONCLUSIVE, INFORMATION = "regressed", "improved", "pass", "inconclusive", "information"


@dataclass(frozen=True)
class Side:
    """One metric in one window.

    `value` is over the whole window; `batches` and `support` (flows or events behind each) have one entry per
    batch; `series` is one value per time bucket, from which the autocorrelation time is taken; `counted` a ratio's
    events and trials per time bucket, of the traffic as it was; `distribution` what a quantile is one of.
    """

    value: float
    batches: NDArray[np.float64]
    support: NDArray[np.float64]
    series: NDArray[np.float64]
    counted: Counted | None = None
    distribution: Distribution | None = None

    @property
    def measured(self) -> float:
        """The value as it is told: of a ratio without a single event 0, where `value` counts half a one."""
        return 0.0 if self.counted is not None and not self.counted.events.sum() else self.value


@dataclass(frozen=True)
class MetricVerdict:
    """One row of the comparison; changes are relative (0.23 is +23%), NaN where there is no answer.

    `measured`: both sides' values as they are told (`Side.measured`).
    """

    metric: Metric
    baseline: float
    candidate: float
    verdict: str
    reason: str = ""
    change: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_worse: float = math.nan
    p_better: float = math.nan
    q_value: float = math.nan
    detectable: float = math.nan
    bound: float = math.nan
    threshold: float = math.nan
    raw_change: float = math.nan
    mix_change: float = math.nan
    effective_size: float = math.nan
    measured: tuple[float, float] = (math.nan, math.nan)
    batches: tuple[NDArray[np.float64], NDArray[np.float64]] | None = field(default=None, repr=False, compare=False)

    @property
    def mix_shift(self) -> bool:
        """Raw and within-stratum effects point in opposite directions, or the raw one is nearly all mix."""
        if not (math.isfinite(self.raw_change) and math.isfinite(self.change)):
            return False
        raw, within = math.log1p(self.raw_change), math.log1p(self.change)
        if abs(raw) <= math.log1p(self.threshold):
            return False
        return raw * within < 0 or abs(within) < 0.25 * abs(raw)


def judge(
    metric: Metric, baseline: Side, candidate: Side, raw_change: float = math.nan, paired: bool = False
) -> MetricVerdict:
    """A metric's verdict before the adjustment for multiple testing (see `decide`).

    The sides are the standardised ones; `raw_change` is that of the traffic as it was. `paired`: the sides' buckets and
    batches belong together one by one.
    """
    threshold = metric.relevant(baseline.value)
    measured = (baseline.measured, candidate.measured)
    row = MetricVerdict(metric, baseline.value, candidate.value, INCONCLUSIVE, threshold=threshold, measured=measured)
    buckets = min(len(baseline.series), len(candidate.series))
    problem = _too_little(metric, baseline, candidate, buckets)
    if problem:
        return replace(row, reason=problem, verdict=INCONCLUSIVE if metric.gating else INFORMATION)
    few = _few_in_a_batch(metric, baseline, candidate)
    if few and metric.kind == "ratio":
        return _judge_rare(row, baseline, candidate)
    if paired:
        tau = autocorrelation_time(candidate.series - baseline.series)
    else:
        tau = max(autocorrelation_time(baseline.series), autocorrelation_time(candidate.series))
    widened = widening(buckets / BATCHES, tau)
    if few and widened <= WIDEST:
        return _judge_thin(row, baseline, candidate, raw_change, widened)
    before, after = baseline.batches, candidate.batches
    test = compare_batches(
        before, after, delta=threshold, bad_direction=metric.bad_direction or 1, paired=paired, widened=widened
    )
    row = replace(
        row,
        change=test.ratio - 1,
        low=test.low - 1,
        high=test.high - 1,
        p_worse=test.p_worse,
        p_better=test.p_better,
        detectable=test.detectable,
        bound=test.bound,
        raw_change=raw_change,
        mix_change=(1 + raw_change) / test.ratio - 1 if math.isfinite(raw_change) else math.nan,
        effective_size=buckets / tau,
        batches=(before, after),
    )
    if not metric.gating:
        return replace(row, verdict=INFORMATION)
    if widened > WIDEST:
        reason = f"neighbouring buckets are too alike: capture {widened / WIDEST:.1f} times longer"
        # Without a p-value the row takes no part in the adjustment.
        return replace(row, p_worse=math.nan, p_better=math.nan, reason=reason)
    return row


def decide(rows: Sequence[MetricVerdict]) -> list[MetricVerdict]:
    """Settle every row: adjust the p-values over the gating metrics and name the verdicts."""
    gating = [row.metric.gating for row in rows]
    worse = q_values([row.p_worse if gate else math.nan for row, gate in zip(rows, gating, strict=True)])
    better = q_values([row.p_better if gate else math.nan for row, gate in zip(rows, gating, strict=True)])
    return [_settle(row, float(w), float(b)) for row, w, b in zip(rows, worse, better, strict=True)]


def _settle(row: MetricVerdict, worse: float, better: float) -> MetricVerdict:
    if not row.metric.gating or not math.isfinite(row.p_worse):
        return row
    if worse < SIGNIFICANT:
        return replace(row, verdict=REGRESSED, q_value=worse, reason="")
    if better < SIGNIFICANT:
        return replace(row, verdict=IMPROVED, q_value=better, reason="")
    if row.bound < row.threshold:
        return replace(row, verdict=PASS, q_value=worse)
    unseen = f"only a change above {row.detectable:+.0%} would have been seen (80% power)"
    return replace(row, q_value=worse, reason=row.reason or unseen)


def overall(rows: Sequence[MetricVerdict], fail_on: Sequence[str] = ()) -> str:
    """The verdict over all gating metrics (or those named in `fail_on`): regressed, inconclusive, improved or pass."""
    deciding = [row for row in rows if row.metric.gating and (not fail_on or row.metric.name in fail_on)]
    verdicts = {row.verdict for row in deciding}
    if REGRESSED in verdicts:
        return REGRESSED
    if INCONCLUSIVE in verdicts or not deciding:
        return INCONCLUSIVE
    return IMPROVED if IMPROVED in verdicts else PASS


def exit_code(verdict: str) -> int:
    """0 pass or improved, 1 regressed, 3 inconclusive."""
    return {REGRESSED: 1, INCONCLUSIVE: 3}.get(verdict, 0)


def _too_little(metric: Metric, baseline: Side, candidate: Side, buckets: int) -> str:
    if buckets < MINIMUM_BUCKETS:
        return f"{buckets} time buckets, at least {MINIMUM_BUCKETS} are needed on each side"
    if not (_usable(baseline.batches) and _usable(candidate.batches)):
        return "a part of the capture has no such data"
    return ""


def _usable(batches: NDArray[np.float64]) -> bool:
    return len(batches) >= 2 and bool(np.isfinite(batches).all() and (batches > 0).all())


def _few_in_a_batch(metric: Metric, baseline: Side, candidate: Side) -> bool:
    """Whether some batch has too few events (ratios) or flows (quantiles) for a value of its own."""
    if not metric.gating or metric.kind == "rate":
        return False
    least = [float(side.support.min()) for side in (baseline, candidate)]
    # A ratio needs its events on one side only: from none to many is a finding, not a lack of data.
    return (max(least) if metric.kind == "ratio" else min(least)) < metric.minimum


def _judge_rare(row: MetricVerdict, baseline: Side, candidate: Side) -> MetricVerdict:
    """A ratio, by the bounds of the difference (see `rare_events`)."""
    if baseline.counted is None or candidate.counted is None:
        return replace(row, reason="too few events")
    difference = rare_events.difference(baseline.counted, candidate.counted)
    events, trials = candidate.counted.events.sum(), candidate.counted.trials.sum()
    seen = f"{events:,.0f} of {trials:,.0f}"
    row = _judge_difference(
        row, difference, row.threshold * baseline.value, lambda by: max(by / baseline.value, -1.0),
        lambda by: f"{100 * by:+.2g} points", seen,
    )  # fmt: skip
    if not events and not baseline.counted.events.sum():
        return replace(row, change=math.nan, low=math.nan, high=math.nan)
    return row


def _judge_thin(
    row: MetricVerdict, baseline: Side, candidate: Side, raw_change: float, widened: float
) -> MetricVerdict:
    """A quantile, by the bounds of the difference of its logarithms (see `thin_quantiles`)."""
    if baseline.distribution is None or candidate.distribution is None:
        return replace(row, reason="too few flows")
    difference = thin_quantiles.difference(baseline.distribution, candidate.distribution, widened)
    seen = f"{min(baseline.support.sum(), candidate.support.sum()):,.0f} flows"
    row = _judge_difference(row, difference, math.log1p(row.threshold), _as_change, _percent, seen)
    mix = (1 + raw_change) / (1 + row.change) - 1
    return replace(row, raw_change=raw_change, mix_change=mix)


def _judge_difference(
    row: MetricVerdict, difference: Difference, margin: float,
    relative: Callable[[float], float], told: Callable[[float], str], seen: str,
) -> MetricVerdict:  # fmt: skip
    """By a difference whose `relative` size is the change; `told` says it, and `seen` what it rests on."""
    upper = difference.upper(CONFIDENCE)
    if upper < margin:
        reason = f"{seen}: more than {told(upper)} is ruled out (95%)"
    else:
        longer = difference.times_longer(margin)
        remedy = f": capture {longer:.1f} times longer" if math.isfinite(longer) else ""
        most = f"up to {told(upper)}" if math.isfinite(upper) else "any rise"
        reason = f"{seen}: {most} is not ruled out (95%), {told(margin)} matters{remedy}"
    change = row.candidate / row.baseline - 1
    ends = (1 + CONFIDENCE) / 2
    return replace(
        row,
        change=change,
        low=relative(difference.lower(ends)),
        high=relative(difference.upper(ends)),
        bound=relative(upper),
        detectable=relative(difference.detectable(margin)),
        # What the mix of the traffic has made is no change for better or worse.
        p_worse=difference.p_above(margin) if change > row.threshold else 1.0,
        p_better=difference.p_below(margin) if -change > row.threshold / (1 + row.threshold) else 1.0,
        reason=reason,
    )


def _as_change(logarithm: float) -> float:
    """The relative change that a difference of logarithms is; infinite where no number holds it."""
    return math.expm1(logarithm) if logarithm < 50 else math.inf


def _percent(logarithm: float) -> str:
    return f"{_as_change(logarithm):+.0%}"
