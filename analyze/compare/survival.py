"""How long TCP connections live, also those that the window's edges cut: `duration_p50`, on request.

A connection that is open at the end lived at least so long, and one that was there at the beginning is only seen
because it had lived until then; without them a short window sees short lives only (see `analyze.statistics.durations`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from analyze.compare.measure import ENDED, FAILED, HOUR_US, Window
from analyze.frames import frame
from analyze.statistics.comparison import INFORMATION, MetricVerdict
from analyze.statistics.durations import kaplan_meier, survival_quantile
from analyze.statistics.metrics import Metric
from analyze.statistics.quantiles import bin_sql, value_of

if TYPE_CHECKING:
    from analyze.scan import Scan


def lives(scan: Scan, window: Window) -> pl.DataFrame:
    """Every TCP connection of the window (`choose_hours` has been called), each once: columns life and entry (age at
    the window's, or its paired hour's, beginning) as bins of microseconds, ended, count.
    """
    begin = f"epoch_us(end_time) // {HOUR_US} * {HOUR_US}" if window.hours else str(window.start)
    rows = (
        f"select epoch_us(end_time) - epoch_us(flow_start_time) as life, {begin} - epoch_us(flow_start_time) as entry, "
        f"coalesce({ENDED}, false) as ended, flows from flow where transport = 'tcp' and flows > 0 "
        f"and flow_start_time is not null and not coalesce({FAILED}, false) and {window.condition_sql}"
    )
    bins = f"{bin_sql('life')} as life, {bin_sql('entry')} as entry"
    return frame(scan, f"select {bins}, ended, sum(flows)::BIGINT as count from ({rows}) group by all")


def quantile(lived: pl.DataFrame, probability: float) -> float:
    """Age in microseconds by which so many of the connections have ended; NaN where the window does not show it."""
    if lived.is_empty():
        return math.nan
    curve = kaplan_meier(
        value_of(lived["life"].to_numpy()), lived["ended"], value_of(lived["entry"].to_numpy()), lived["count"]
    )
    found = survival_quantile(curve, probability)
    return found if math.isfinite(found) else math.nan


def judge(metric: Metric, baseline: pl.DataFrame, candidate: pl.DataFrame) -> MetricVerdict:
    """The metric's row, which never decides, from both sides' `lives`."""
    before, after = (quantile(side, metric.probability) for side in (baseline, candidate))
    open_ones = sum(int(side.filter(~pl.col("ended"))["count"].sum()) for side in (baseline, candidate))
    cut = f"{open_ones:,} connections were still open and count for what is known of them"
    reason = cut if math.isfinite(before * after) else "more connections than that outlive the window"
    change = after / before - 1 if before > 0 else math.nan
    return MetricVerdict(metric, before, after, INFORMATION, reason, change, measured=(before, after))
