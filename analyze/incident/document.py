"""An incident as an answer: one sentence, the pattern with its signals, a timeline, ranked slices, evidence rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo

import polars as pl

from analyze.answer import Answer, Drawing, Section
from analyze.header import Chart
from analyze.incident.series import Grid
from analyze.incident.windows import Span
from analyze.result import Column
from analyze.statistics.patterns import Match
from analyze.statistics.timeline import Movement
from netrec.text import format_duration, format_latency, format_size

FORMAT = 1
MOST_IQRS = 999.0  # what never varies has no IQR: beyond this the number says nothing
SLICE_COLUMNS = (
    Column("baseline", "DOUBLE", "", "affected share (or per second) in the baseline"),
    Column("candidate", "DOUBLE", "", "the same in the window"),
    Column("support", "DOUBLE", "ratio", "share of the window's traffic"),
    Column("share_of_change", "DOUBLE", "ratio", "share of the whole change"),
)


# Slices of a share have a metric, those of a volume are per second.
SHARE_COLUMNS = tuple(replace(one, unit="ratio") for one in SLICE_COLUMNS)
BYTES = (Column("bytes", "BIGINT", "bytes"),)
EVIDENCE_COLUMNS = (*BYTES, Column("connect_latency_us", "BIGINT", "us"), Column("rtt_us", "BIGINT", "us"))
MOMENTS = ("onset", "low", "high", "recovered")
# Unit of a series -> (factor, unit) that people are shown.
UNITS = {"us": (0.001, "ms"), "share": (1.0, "ratio"), "byte/s": (1.0, "bytes/s"), "byte": (1.0, "bytes")}


@dataclass(frozen=True)
class Findings:
    """Everything that the command found about one window."""

    window: Span
    baseline: Span
    grid: Grid
    movements: Sequence[Movement]
    matches: Sequence[Match]
    leading: Movement | None
    slices: pl.DataFrame
    involved: pl.DataFrame
    rows: pl.DataFrame
    signals: dict[str, float]
    missed: Sequence[str]
    asked: Mapping[str, Sequence[str]]
    others: Sequence[Span] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def build(found: Findings, zone: tzinfo | None) -> Answer:
    """The answer about a window."""
    slice_columns = SHARE_COLUMNS if "metric" in found.slices.columns else SLICE_COLUMNS
    sections = [
        Section(
            "timeline", "What moved, in order", _timeline(found), (), "no metric changed its level in this window",
            asked=found.asked["timeline"], drawings=_drawings(found),
        ),
        Section(
            "patterns", "Known patterns that fit", _patterns(found.matches), (), "none of the known patterns fits",
            asked=found.asked["patterns"],
        ),
        Section(
            "slices", "Where it is concentrated", found.slices, slice_columns, "no slice stands out",
            asked=found.asked["slices"], drawings=_shares(found.slices),
        ),
        Section("involved", "Who was involved", found.involved, BYTES, asked=found.asked["involved"]),
        Section("evidence", "Rows that show it", found.rows, EVIDENCE_COLUMNS, "none", asked=found.asked["evidence"]),
    ]  # fmt: skip
    best = found.matches[0] if found.matches else None
    notes = [*found.notes]
    if best:
        notes.append(f"signals of {best.pattern.title} that match: {'; '.join(best.matched)}")
        if best.failed:
            notes.append(f"that do not: {'; '.join(best.failed)}")
        if best.missing:
            notes.append(f"that this trace cannot show: {'; '.join(best.missing)}")
        notes.append(f"next: {best.pattern.advice}")
    notes += [f"baseline: {_clock(found.baseline.start, zone)} to {_clock(found.baseline.end, zone)}", *found.missed]
    for other in found.others[:5]:
        notes.append(
            f"another window looks unusual: {_clock(other.start, zone)} to {_clock(other.end, zone)} "
            f"(--window {_iso(other.start)}/{_iso(other.end)})"
        )
    document = {
        "format": FORMAT,
        "window": {"since": _iso(found.window.start), "until": _iso(found.window.end)},
        "baseline": {"since": _iso(found.baseline.start), "until": _iso(found.baseline.end)},
        "pattern": best.pattern.name if best else None,
        "signals": dict(sorted(found.signals.items())),
        "other_windows": [{"since": _iso(one.start), "until": _iso(one.end)} for one in found.others],
    }
    return Answer("incident", sentence(found, zone), 1 if _is_finding(found) else 0, notes, sections, document)


def nothing(whole: Span, zone: tzinfo | None, notes: Sequence[str]) -> Answer:
    """The answer for a trace in which nothing stands out."""
    text = (
        f"Nothing unusual found between {_clock(whole.start, zone)} and {_clock(whole.end, zone)}: no metric left its "
        "usual level by more than its noise."
    )
    return Answer("incident", text, 0, notes, (), {"format": FORMAT, "window": None, "pattern": None})


def sentence(found: Findings, zone: tzinfo | None) -> str:
    """For example: From 14:03:20 +-10 s to 14:08:00, 91% of new failures were in service db:5432; matches ..."""
    first = _first_bad(found)
    when = f"From {_clock(found.window.start, zone)}"
    if first is not None:
        error = max(first.high - first.low, 1) * found.grid.width / 2e6
        when = f"From {_clock(found.grid.time(first.start), zone)} ±{format_duration(error)}"
    until = (
        f" to {_clock(found.window.end, zone)}" if found.window.end < found.grid.end - found.grid.width else ", still"
    )
    if found.leading is None:
        return f"{when}{until}: no metric changed its level."
    lead = found.leading
    usual, level = (_value(value, lead.series.unit) for value in (lead.usual, lead.level))
    moved = f"{lead.series.title} went from {usual} to {level}"
    place = ""
    if found.slices.height:
        top = found.slices.row(0, named=True)
        share = top["share_of_change"]
        place = f", {min(share, 1.0):.0%} of it in {top['dimension']} {top['value']}"
    if not found.matches:
        return f"{when}{until}, {moved}{place}; no known pattern fits."
    return f"{when}{until}, {moved}{place}; matches {found.matches[0].summary}."


def _is_finding(found: Findings) -> bool:
    return bool(found.matches) or any(movement.bad for movement in found.movements)


def _first_bad(found: Findings) -> Movement | None:
    return min((one for one in found.movements if one.bad), key=lambda one: one.start, default=None)


def _timeline(found: Findings) -> pl.DataFrame:
    rows = []
    for one in found.movements:
        recovered = one.end < found.grid.count
        rows.append(
            {
                "onset": datetime.fromtimestamp(found.grid.time(one.start) / 1e6, UTC),
                "plus_minus": format_duration(max(one.high - one.low, 1) * found.grid.width / 2e6),
                "metric": one.series.title,
                "usual": _value(one.usual, one.series.unit),
                "then": _value(one.level, one.series.unit),
                "iqrs": round(min(one.score, MOST_IQRS), 1),
                "recovered": datetime.fromtimestamp(found.grid.time(one.end) / 1e6, UTC) if recovered else None,
            }
        )
    schema: dict[str, pl.DataType | type[pl.DataType]] = {
        "onset": pl.Datetime("us", "UTC"), "plus_minus": pl.String, "metric": pl.String, "usual": pl.String,
        "then": pl.String, "iqrs": pl.Float64, "recovered": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _drawings(found: Findings) -> list[Drawing]:
    """When each metric moved, and the leading one over time."""
    grid = found.grid
    spans = pl.DataFrame(
        [
            {
                "metric": one.series.title,
                "onset": grid.time(one.start),
                "low": grid.time(one.low),
                "high": grid.time(max(one.high, one.low + 1)),
                "recovered": grid.time(one.end) if one.end < grid.count else None,
                "label": f"{_value(one.usual, one.series.unit)} to {_value(one.level, one.series.unit)}",
            }
            for one in found.movements
        ],
        schema={"metric": pl.String, **dict.fromkeys(MOMENTS, pl.Int64), "label": pl.String},
    )
    axes = {"x": "onset", "y": "metric", "end": "recovered", "low": "low", "high": "high", "label": "label"}
    drawings = [Drawing("When each metric left its usual level, and came back", Chart("span", axes), _times(spans))]
    if found.leading:
        series = found.leading.series
        scale, unit = UNITS.get(series.unit, (1.0, series.unit))
        over_time = pl.DataFrame(
            {"time": [grid.time(bucket) for bucket in range(grid.count)], "value": series.values * scale}
        ).filter(pl.col("value").is_finite())
        title = f"{series.title[0].upper()}{series.title[1:]} over time" + (f" ({unit})" if unit == "/s" else "")
        chart = Chart("line", {"x": "time", "y": "value"})
        drawings.insert(0, Drawing(title, chart, _times(over_time), [Column("value", "DOUBLE", unit)]))
    return drawings


def _times(frame: pl.DataFrame) -> pl.DataFrame:
    named = [name for name in (*MOMENTS, "time") if name in frame.columns]
    return frame.with_columns(pl.from_epoch(pl.col(named), time_unit="us").dt.replace_time_zone("UTC"))


def _shares(slices: pl.DataFrame) -> list[Drawing]:
    if slices.is_empty():
        return []
    frame = slices.with_columns(slice=pl.format("{} {}", "dimension", "value"))
    chart = Chart("bar", {"x": "share_of_change", "y": "slice"})
    return [Drawing("Share of the whole change", chart, frame, SLICE_COLUMNS)]


def _patterns(matches: Sequence[Match]) -> pl.DataFrame:
    rows = [
        {
            "pattern": match.pattern.name,
            "title": match.pattern.title,
            "score": round(match.score, 2),
            "matched": "; ".join(match.matched),
            "failed": "; ".join(match.failed),
            "missing": "; ".join(match.missing),
        }
        for match in matches
    ]
    schema: dict[str, type[pl.DataType]] = {
        "pattern": pl.String, "title": pl.String, "score": pl.Float64,
        "matched": pl.String, "failed": pl.String, "missing": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def _value(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "-"
    if unit == "us":
        return format_latency(value)
    if unit == "share":
        return f"{value:.1%}" if value >= 0.001 or value == 0 else f"{value:.3%}"
    if unit.startswith("byte"):
        return format_size(value) + unit.removeprefix("byte")
    return f"{value:.3g}{unit}"


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clock(moment: int, zone: tzinfo | None) -> str:
    from analyze.moments import show

    return show(moment, zone).split(".")[0]
