"""A capacity review as an answer: what fills first and when, in one sentence and in tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from analyze.answer import Answer, Drawing, Section
from analyze.capacity.traffic import Extent
from analyze.header import Chart
from analyze.result import Column
from analyze.statistics.outlook import AT_RISK, UNKNOWN, Outlook
from netrec.text import format_count, format_duration, format_size

FORMAT = 1
SHOWN = 20
FAR = 0.01  # of its limit: nobody needs to see it
OFTEN = 3  # so many equal notes are said once
FANS = 3
DAY_US = 86_400_000_000
NO_FORECAST = "no resource has the 14 days of history that a forecast needs"
COLUMNS = (
    Column("share", "DOUBLE", "ratio"),
    Column("bytes_per_second", "DOUBLE", "bytes/s"),
    Column("billed_bits_per_second", "DOUBLE", "bits/s"),
    Column("share_of_month", "DOUBLE", "ratio"),
    Column("mean_life", "DOUBLE", "s"),
    Column("bin_seconds", "BIGINT", "s"),
)


@dataclass(frozen=True)
class Asked:
    """What was asked for; `lead_days` None: no exit code by date; `all`: also what is far from its limit."""

    threshold: float
    lead_days: float | None
    growth: float
    lost: int
    hosts: int
    all: bool = False


def build(
    outlooks: Sequence[Outlook],
    asked: Asked,
    extent: Extent,
    sections: Sequence[Section],
    notes: Sequence[str],
    asked_sql: Sequence[str] = (),
) -> Answer:
    """The answer; `sections` are those beside the resources, `asked_sql` the queries behind these."""
    last = datetime.fromtimestamp(extent.end / 1e6, UTC).date()
    limited = [one for one in outlooks if one.resource.limit > 0]
    rows = pl.DataFrame([_row(one, last) for one in outlooks], infer_schema_length=None, schema=_SCHEMA)
    near = [one for place, one in enumerate(outlooks) if asked.all or not place or not _is_far(one)]
    seen = near if asked.all else near[:SHOWN]
    once = [reason for reason, times in Counter(one.reason for one in seen).items() if reason and times >= OFTEN]
    shown = pl.DataFrame([_shown(one, last, asked, once) for one in seen], infer_schema_length=None)
    notes = [*notes, *(f"of each resource without a note: {reason}" for reason in once)]
    if far := len(outlooks) - len(near):
        notes.append(f"{far} resources below {FAR:.0%} of their limits are left out (--all shows them)")
    if more := len(near) - len(seen):
        notes.append(f"{more} resources further from their limits are left out (--all shows them)")
    code = exit_code(limited, asked)
    document: dict[str, Any] = {
        "format": FORMAT,
        "threshold": asked.threshold,
        "growth": asked.growth,
        "lost_hosts": asked.lost,
        "hosts": asked.hosts,
        "seconds": extent.seconds,
    }
    forecast = [one for one in limited if one.prediction][:FANS]
    fans = [_fan(one, extent) for one in forecast]
    own = Section(
        "resources", "Resources, what fills first on top", rows, COLUMNS, "none", display=shown, asked=asked_sql,
        drawings=[*fans, _use(limited)],
    )  # fmt: skip
    table = Section(
        "forecast", "Forecast of the first to fill", _ahead(forecast[:1], last), (), NO_FORECAST, asked=asked_sql
    )
    return Answer("capacity", sentence(limited, asked, extent, last), code, notes, [own, *sections, table], document)


def exit_code(limited: Sequence[Outlook], asked: Asked) -> int:
    """1 when something is at risk; 3 when a lead time was asked for and the history cannot say; else 0."""
    if any(one.status == AT_RISK for one in limited):
        return 1
    if asked.lead_days is None:
        return 0
    return 3 if not limited or any(one.status == UNKNOWN for one in limited) else 0


def sentence(limited: Sequence[Outlook], asked: Asked, extent: Extent, last: date) -> str:
    """For example: conntrack on gw-3 reaches 90% of its limit between 2027-03-04 and 2027-03-19 (80% interval)."""
    if not limited:
        return (
            f"{format_duration(extent.seconds)} of traffic, and no limit to hold it against: record with "
            "--source ebpf,host, or give the link's speed with --link-speed."
        )
    first = limited[0]
    name, full = f"{first.resource.name} on {first.resource.host}", f"{asked.threshold:.0%} of its limit"
    grown = f" at {asked.growth:+.0%}" if asked.growth else ""
    if first.crossing and first.crossing.p10 <= first.crossing.horizon:
        until = f"and {_date(last, first.crossing.p90)}" if math.isfinite(first.crossing.p90) else "and later"
        return f"{name} reaches {full}{grown} between {_date(last, first.crossing.p10)} {until} (80% interval)."
    if first.status == AT_RISK:
        turned_away = f" and dropped {format_count(first.resource.drops)} times" if first.resource.drops > 0 else ""
        return f"{name} has reached {first.resource.share:.0%} of its limit{turned_away}: {first.reason}."
    tight = max(limited, key=lambda one: one.resource.share)
    tightest = f"{tight.resource.name} on {tight.resource.host} at {tight.resource.share:.0%} of its limit"
    forecasts = [one for one in limited if one.crossing]
    if forecasts:
        horizon = min(one.crossing.horizon for one in forecasts if one.crossing)
        return (
            f"Nothing reaches {full}{grown} within the {horizon} days that the history carries; "
            f"the fullest is {tightest}."
        )
    return (
        f"The fullest is {tightest} (headroom {tight.headroom:.0%}); a date needs 14 days of history, "
        f"this trace has {tight.history}."
    )


_SCHEMA = {
    "resource": pl.String, "host": pl.String, "unit": pl.String, "now": pl.Float64, "peak": pl.Float64,
    "growth_per_week": pl.Float64, "limit": pl.Float64, "share": pl.Float64, "p10_date": pl.String,
    "p50_date": pl.String, "p90_date": pl.String, "headroom": pl.Float64, "share_after": pl.Float64,
    "drops": pl.Float64, "status": pl.String, "reason": pl.String, "method": pl.String, "coverage": pl.Float64,
    "history_days": pl.Int64, "rare_peak": pl.Float64, "rare_peak_indicative": pl.Boolean,
}  # fmt: skip


def _row(one: Outlook, last: date) -> dict[str, Any]:
    crossing, prediction = one.crossing, one.prediction
    return {
        "resource": one.resource.name,
        "host": one.resource.host,
        "unit": one.resource.unit,
        "now": float(one.resource.now),
        "peak": float(one.resource.peak),
        "growth_per_week": prediction.growth_per_week if prediction else None,
        "limit": one.resource.limit if one.resource.limit > 0 else None,
        "share": one.resource.share if one.resource.limit > 0 else None,
        "p10_date": _date(last, crossing.p10) if crossing else None,
        "p50_date": _date(last, crossing.p50) if crossing else None,
        "p90_date": _date(last, crossing.p90) if crossing else None,
        "headroom": one.headroom,
        "share_after": one.after,
        "drops": one.resource.drops if math.isfinite(one.resource.drops) else None,
        "status": one.status,
        "reason": one.reason,
        "method": prediction.method if prediction else None,
        "coverage": prediction.coverage if prediction else None,
        "history_days": one.history,
        "rare_peak": one.rare.level if one.rare else None,
        "rare_peak_indicative": one.rare.indicative if one.rare else None,
    }


def _is_far(one: Outlook) -> bool:
    return one.status != AT_RISK and one.resource.share < FAR


def _shown(one: Outlook, last: date, asked: Asked, once: Sequence[str]) -> dict[str, str]:
    resource, crossing, prediction = one.resource, one.crossing, one.prediction
    row = {
        "resource": resource.name,
        "host": resource.host,
        "status": one.status if resource.limit > 0 else "-",
        "now": _amount(resource.now, resource.unit),
        "peak": _amount(resource.peak, resource.unit),
        "limit": _amount(resource.limit, resource.unit),
        "of limit": _percent(resource.share),
        "drops": format_count(resource.drops) if math.isfinite(resource.drops) else "-",
        "headroom": _percent(one.headroom),
        "growth/week": _amount(prediction.growth_per_week, resource.unit) if prediction else "-",
        "full P10": _date(last, crossing.p10) if crossing else "-",
        "P50": _date(last, crossing.p50) if crossing else "-",
        "P90": _date(last, crossing.p90) if crossing else "-",
        "covers": _percent(prediction.coverage) if prediction else "-",
        "note": "" if one.reason in once else one.reason,
    }
    if asked.growth or asked.lost:
        label = (
            "after"
            + (f" {asked.growth:+.0%}" if asked.growth else "")
            + (f" -{asked.lost} hosts" if asked.lost else "")
        )
        place = list(row).index("growth/week")
        row = {**dict(list(row.items())[:place]), label: _percent(one.after), **dict(list(row.items())[place:])}
    return row


def _ahead(chosen: Sequence[Outlook], last: date) -> pl.DataFrame:
    """The forecast in about ten steps."""
    schema = {
        "resource": pl.String, "host": pl.String, "date": pl.String, "low": pl.Float64, "middle": pl.Float64,
        "high": pl.Float64, "limit": pl.Float64,
    }  # fmt: skip
    rows = [
        (one.resource.name, one.resource.host, _date(last, day + 1), low, middle, high, one.resource.limit)
        for one in chosen
        if (found := one.prediction)
        for day, (low, middle, high) in enumerate(zip(found.low, found.middle, found.high, strict=True))
        if day % max(1, len(found.low) // 10) == 0
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _fan(one: Outlook, extent: Extent) -> Drawing:
    """Daily peaks, the forecast with its interval, and the limit."""
    assert one.prediction is not None
    resource, found = one.resource, one.prediction
    midnight = extent.end // DAY_US * DAY_US
    past = [
        ("daily peak", midnight - (len(resource.days) - 1 - day) * DAY_US, peak, None, None, resource.limit)
        for day, peak in enumerate(resource.days.tolist())
        if math.isfinite(peak)
    ]
    ahead = [
        ("forecast, 80% interval", midnight + (day + 1) * DAY_US, middle, low, high, resource.limit)
        for day, (low, middle, high) in enumerate(
            zip(found.low.tolist(), found.middle.tolist(), found.high.tolist(), strict=True)
        )
    ]
    # The first hundred rows of a long history have no interval: types are given, not guessed from them.
    figures = dict.fromkeys(("peak", "low", "high", "limit"), pl.Float64())
    frame = pl.DataFrame([*past, *ahead], {"series": pl.String(), "day": pl.Int64(), **figures}, orient="row")
    if resource.limit >= 1000:
        frame = frame.with_columns(pl.col("peak", "low", "high", "limit").round().cast(pl.Int64))
    unit = {"byte": "bytes", "byte/s": "bytes/s"}.get(resource.unit, resource.unit)
    return Drawing(
        f"{resource.name} on {resource.host}: daily peak against its limit",
        Chart("band", {"x": "day", "y": "peak", "low": "low", "high": "high", "limit": "limit", "series": "series"}),
        frame.with_columns(pl.from_epoch("day", time_unit="us").dt.replace_time_zone("UTC")),
        [Column(name, "DOUBLE", unit) for name in ("peak", "low", "high", "limit")],
    )


def _use(limited: Sequence[Outlook]) -> Drawing:
    rows = [(f"{one.resource.name} on {one.resource.host}", one.resource.share) for one in limited[:SHOWN]]
    frame = pl.DataFrame(rows, schema={"resource": pl.String, "share": pl.Float64}, orient="row")
    return Drawing("Peak as a share of the limit", Chart("bar", {"x": "share", "y": "resource"}), frame, COLUMNS)


def _date(last: date, days: float) -> str:
    return (last + timedelta(days=round(days))).isoformat() if math.isfinite(days) else "not within the horizon"


def _percent(value: float) -> str:
    if math.isinf(value):
        return "no host left"
    return f"{value:.1%}" if math.isfinite(value) else "-"


def _amount(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "-"
    if unit.startswith("byte"):
        return ("-" if value < 0 else "") + format_size(abs(value)) + unit.removeprefix("byte")
    sign = "-" if value < 0 else ""
    return f"{sign}{format_count(abs(value)) if abs(value) >= 10 or value == 0 else f'{abs(value):.2g}'} {unit}"
