"""Where the leading symptom is concentrated: ranked, tested slices; for volumes, who added the most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from analyze.compare.explain import DIMENSIONS, distinct, ranked_slices
from analyze.compare.measure import COUNTS, HISTOGRAMS, Window
from analyze.frames import frame
from analyze.incident.series import MORE
from analyze.statistics.timeline import Movement

if TYPE_CHECKING:
    from analyze.scan import Scan

SHOWN = 10


def _more(name: str) -> str:
    """SQL: 1 for a row that meets this condition, 0 for others."""
    return f"coalesce({MORE[name]}, false)::INTEGER"


# Leading metric -> SQL of (bad, total) per row.
SYMPTOMS = {
    "retransmit_ratio": (COUNTS["retransmits"], COUNTS["packets"]),
    "connect_failure_ratio": (COUNTS["connect_failures"], COUNTS["connects"]),
    "reset_share": (COUNTS["resets"], "coalesce(tcp_close is not null, false)::INTEGER"),
    "timeout_share": (COUNTS["timeouts"], "coalesce(tcp_close is not null, false)::INTEGER"),
    "one_way_share": (_more("one_way"), _more("completed")),
    "silent_share": (_more("silent"), _more("open")),
    "dns_unanswered": ("(server_port = 53 and coalesce(server_bytes, 0) = 0)::INTEGER", "(server_port = 53)::INTEGER"),
}
VOLUMES = {"flow_rate": COUNTS["flows"], "byte_rate": COUNTS["bytes"], "bytes_per_flow": COUNTS["flows"]}


def leading(movements: list[Movement], shows: Sequence[str] = ()) -> Movement | None:
    """The symptom to explain: the first of the metrics `shows` that moved for the worse, else the strongest bad
    movement of flows, else of a gauge or event, else of a volume.
    """
    bad = [movement for movement in movements if movement.bad]
    for name in shows:
        own = [movement for movement in bad if movement.series.name == name]
        if own:
            return max(own, key=lambda movement: movement.score)
    telling = [movement for movement in bad if explainable(movement) and movement.series.name not in VOLUMES]
    other = [movement for movement in bad if movement.series.name not in VOLUMES]
    return max(telling or other or bad, key=lambda movement: movement.score, default=None)


def explain(incident: Scan, baseline: Scan, window: Window, before: Window, symptom: Movement) -> pl.DataFrame:
    """Ranked slices of the symptom: dimension, value, baseline and incident (share or per second), support,
    risk_ratio, low, high, share_of_change, q_value.
    """
    name = symptom.series.name
    if name in VOLUMES:
        return _volumes(incident, baseline, window, before, VOLUMES[name])
    if name in SYMPTOMS:
        measure = SYMPTOMS[name]
    else:
        histogram = {"connect_latency": "connect_latency", "rtt": "rtt"}[name]
        value = f"({HISTOGRAMS[histogram]})"
        threshold = max(symptom.usual, 1.0) * math.sqrt(max(symptom.level / max(symptom.usual, 1.0), 1.0))
        measure = (f"coalesce({value} > {threshold!r}, false)::INTEGER", f"({value} is not null)::INTEGER")
    return ranked_slices(baseline, incident, window, {name: measure}).head(SHOWN)


def explainable(movement: Movement) -> bool:
    """Whether the symptom can be told for a single flow, and so be sought in slices."""
    name = movement.series.name
    return name in SYMPTOMS or name in VOLUMES or name in ("connect_latency", "rtt")


def _volumes(incident: Scan, baseline: Scan, window: Window, before: Window, sql: str) -> pl.DataFrame:
    """What each slice added (or lost) per second, the largest first."""
    parts = []
    for scan, one in ((incident, window), (baseline, before)):
        per_dimension = [
            frame(scan, f"select '{name}' as dimension, {text} as value, sum({sql})::DOUBLE / {one.seconds!r} as rate "
                        "from flow group by 2 order by rate desc limit 1000")
            for name, text in DIMENSIONS.items()
        ]  # fmt: skip
        parts.append(pl.concat(per_dimension))
    joined = parts[0].join(parts[1], on=["dimension", "value"], how="full", coalesce=True, suffix="_before")
    joined = joined.with_columns(pl.col("rate", "rate_before").fill_null(0.0))
    change = pl.col("rate") - pl.col("rate_before")
    total = joined.group_by("dimension").agg(
        change.sum().alias("whole"), pl.col("rate").sum().alias("all"), pl.col("rate_before").sum().alias("all_before")
    )
    usual_share = pl.col("rate_before") / pl.col("all_before").clip(lower_bound=1e-9)
    return (
        joined.join(total, on="dimension")
        .filter(pl.col("whole").abs() > 0)
        .with_columns(share_of_change=change / pl.col("whole"), usual_share=usual_share)
        # A slice explains what it adds beyond its usual share of everything.
        .with_columns(own=pl.col("share_of_change") - pl.col("usual_share"))
        .filter(pl.col("own") >= 0.2)
        .sort(["own", "dimension", "value"], descending=[True, False, False])
        .pipe(distinct, ["rate", "rate_before"])
        .select(
            "dimension",
            "value",
            baseline="rate_before",
            candidate="rate",
            support=pl.col("rate") / pl.col("all").clip(lower_bound=1e-9),
            risk_ratio=pl.col("rate") / pl.col("rate_before"),
            low=pl.lit(None, dtype=pl.Float64),
            high=pl.lit(None, dtype=pl.Float64),
            share_of_change="share_of_change",
            q_value=pl.lit(None, dtype=pl.Float64),
        )
        .head(SHOWN)
    )
