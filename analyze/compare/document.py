"""A comparison as an answer: its sentence, its tables, and the JUnit form for a pipeline's test report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import polars as pl

from analyze.answer import Answer, Drawing, Section
from analyze.compare.measure import Measured
from analyze.compare.pairing import Pairing, applies, whole_hours
from analyze.header import Chart
from analyze.result import Column
from analyze.statistics.assessment import Assessment
from analyze.statistics.comparison import IMPROVED, INCONCLUSIVE, INFORMATION, PASS, REGRESSED, MetricVerdict, exit_code
from analyze.statistics.quantiles import cumulative_distribution, quantile
from netrec.text import format_latency, format_size, printable

FORMAT = 1  # of the JSON document; fields are only ever added within one number

COLUMNS = (
    Column("metric", "VARCHAR", "", "what is compared"),
    Column("baseline", "DOUBLE", "", "its value in the baseline, in its unit"),
    Column("candidate", "DOUBLE", "", "its value in the candidate, at the baseline's mix"),
    Column("unit", "VARCHAR", "", "unit of both"),
    Column("change", "DOUBLE", "ratio", "candidate / baseline - 1, at the baseline's mix"),
    Column("low", "DOUBLE", "ratio", "lower end of its 95% interval"),
    Column("high", "DOUBLE", "ratio", "upper end of its 95% interval"),
    Column("q_value", "DOUBLE", "", "of a change worse than what matters, over all metrics"),
    Column("matters_from", "DOUBLE", "ratio", "the change that begins to matter"),
    Column("detectable", "DOUBLE", "ratio", "the smallest change that would have been seen (80% power)"),
    Column("raw_change", "DOUBLE", "ratio", "the change of the traffic as it was"),
    Column("mix_change", "DOUBLE", "ratio", "the part of it that is a change of mix"),
    Column("effective_size", "DOUBLE", "", "independent time buckets on the smaller side"),
    Column("verdict", "VARCHAR", "", "regressed, improved, pass, inconclusive or information"),
    Column("reason", "VARCHAR", "", "why there is no verdict, or why so"),
)
FOREST = Chart("interval", {"x": "change", "y": "metric", "low": "low", "high": "high", "limit": "matters_from"})
BARS = Chart("bar", {"x": "share_of_change", "y": "slice"})
CURVE = Chart("curve", {"x": "milliseconds", "y": "share", "series": "side"})
# Histogram of a comparison -> what its distribution is called.
CURVES = {"connect_latency": "Connect latency", "rtt": "Round-trip time"}
CURVE_COLUMNS = (
    Column("milliseconds", "DOUBLE", "ms", "a value"),
    Column("share", "DOUBLE", "ratio", "share of the connections that have this value or a smaller one"),
)
SHOWN_QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.99)
SLICE_COLUMNS = (
    Column("baseline", "DOUBLE", "ratio", "affected share in the baseline"),
    Column("candidate", "DOUBLE", "ratio", "affected share in the candidate"),
    Column("support", "DOUBLE", "ratio", "share of the candidate's traffic"),
    Column("share_of_change", "DOUBLE", "ratio", "share of the whole change"),
)


def build(
    assessment: Assessment,
    baseline: Measured,
    candidate: Measured,
    contributions: pl.DataFrame,
    edges: pl.DataFrame,
    fail_on: Sequence[str],
    asked: Mapping[str, Sequence[str]],
    paired: Pairing | None = None,
) -> Answer:
    """The answer of a comparison that could be made; `asked` is the SQL behind "metrics", "slices" and "edges"."""
    metrics = pl.DataFrame(
        [_row(row) for row in assessment.rows], schema_overrides={"reason": pl.String}, infer_schema_length=None
    )
    shown = pl.DataFrame([_shown(row) for row in assessment.rows])
    judged = pl.when(pl.col("verdict") != INFORMATION).then("matters_from")
    forest = metrics.filter(pl.col("change").is_finite()).with_columns(matters_from=judged)
    drawings = [Drawing("Change with its 95% interval; grey: what does not matter", FOREST, forest, COLUMNS)]
    sections = [
        Section("metrics", "Metrics", metrics, COLUMNS, display=shown, asked=asked["metrics"], drawings=drawings)
    ]
    if any(row.verdict == REGRESSED for row in assessment.rows):
        sections.append(
            Section(
                "slices", "Where it comes from", contributions, SLICE_COLUMNS,
                "no slice stands out: the change is spread over the traffic", asked=asked["slices"],
                drawings=_shares(contributions),
            )
        )  # fmt: skip
    sides = {"baseline": baseline, "candidate": candidate}
    curves = distributions(sides)
    sections.append(
        Section(
            "distributions", "Distributions", curves, CURVE_COLUMNS, "neither latency nor round-trip time was measured",
            _quantiles(sides), asked=asked["metrics"],
            drawings=[
                Drawing(f"{title}: share of connections up to a value", CURVE, curves.filter(pl.col("what") == name))
                for name, title in CURVES.items()
            ],
        )
    )  # fmt: skip
    sections.append(
        Section(
            "edges", "New and vanished client-to-service edges", edges.head(20), (), "none", asked=asked["edges"]
        )
    )  # fmt: skip
    document: dict[str, Any] = {
        "format": FORMAT,
        "verdict": assessment.verdict,
        "mix_shift": assessment.mix_shift,
        "comparable_share": assessment.comparable,
        "fail_on": list(fail_on),
        "baseline": _side(baseline),
        "candidate": _side(candidate),
        "pairing": {"by": paired.by, "hours": len(paired)} if paired else None,
    }
    return Answer(
        "compare",
        sentence(assessment, contributions),
        exit_code(assessment.verdict),
        [*_notes(assessment, edges), *_pairing_notes(baseline, candidate, paired)],
        sections,
        document,
    )


def _shares(contributions: pl.DataFrame) -> list[Drawing]:
    if contributions.is_empty():
        return []
    several = contributions["metric"].n_unique() > 1
    named = (
        pl.format("{}: {} {}", "metric", "dimension", "value") if several else pl.format("{} {}", "dimension", "value")
    )
    return [Drawing("Share of the whole change", BARS, contributions.with_columns(slice=named), SLICE_COLUMNS)]


def distributions(sides: Mapping[str, Measured]) -> pl.DataFrame:
    """The cumulative distributions of `CURVES` on both sides, as the traffic was: columns what, side, milliseconds,
    share; at most about 150 rows a curve, the last of share 1.
    """
    found = []
    for what in CURVES:
        for side, measured in sides.items():
            own = measured.histograms.filter(pl.col("histogram") == what).group_by("bin").agg(pl.col("count").sum())
            curve = cumulative_distribution(own["bin"].to_numpy(), own["count"].to_numpy())
            # Even steps, and finer ones in the tail.
            step = (pl.col("share") * pl.when(pl.col("share") < 0.9).then(50).otherwise(1000)).ceil()
            thin = curve.with_columns(step=step).unique("step", keep="last", maintain_order=True)
            found.append(
                thin.select(what=pl.lit(what), side=pl.lit(side), milliseconds=pl.col("value") / 1000, share="share")
            )
    return pl.concat(found)


def _quantiles(sides: Mapping[str, Measured]) -> pl.DataFrame:
    """The distributions as people read them: a few quantiles of both sides."""
    rows = []
    for what, title in CURVES.items():
        for side, measured in sides.items():
            own = measured.histograms.filter(pl.col("histogram") == what)
            bins, counts = own["bin"].to_numpy(), own["count"].to_numpy()
            shown = {f"p{100 * one:g}": _value(quantile(bins, counts, one), "us") for one in SHOWN_QUANTILES}
            rows.append({"what": title, "side": side, "connections": f"{own['count'].sum():,}", **shown})
    return pl.DataFrame(rows)


def sentence(assessment: Assessment, contributions: pl.DataFrame) -> str:
    """For example: Regressed: connect p95 +23% (95% interval +14% to +33%), all in port=5432; 9 of 10 metrics ..."""
    gating = [row for row in assessment.rows if row.metric.gating]
    passed = sum(row.verdict in (PASS, IMPROVED) for row in gating)
    rest = f"{passed} of {len(gating)} metrics are within their limits or better"
    if assessment.verdict == REGRESSED:
        worst = sorted((row for row in gating if row.verdict == REGRESSED), key=lambda row: -row.change / row.threshold)
        named = ", ".join(f"{_name(row)} {_interval(row)}" for row in worst[:3])
        more = f" and {len(worst) - 3} more" if len(worst) > 3 else ""
        return f"Regressed: {named}{more}{_where(contributions, worst[0])}; {rest}."
    if assessment.verdict == INCONCLUSIVE:
        open_rows = [row for row in gating if row.verdict == INCONCLUSIVE]
        if assessment.gate.inconclusive:
            return f"Inconclusive: {assessment.gate.inconclusive[0]}."
        if not open_rows:
            return "Inconclusive: no metric was measured."
        first = open_rows[0]
        others = f" (and {len(open_rows) - 1} more)" if len(open_rows) > 1 else ""
        return f"Inconclusive: {_name(first)}{others}: {first.reason}; {rest}."
    if assessment.verdict == IMPROVED:
        better = [row for row in gating if row.verdict == IMPROVED]
        return f"Improved: {', '.join(f'{_name(row)} {_interval(row)}' for row in better[:3])}; {rest}."
    return f"Pass: {rest}."


def junit(answer: Answer) -> str:
    """JUnit XML: a test case a metric; a regression is a failure, a missing answer an error."""
    rows = next(section for section in answer.sections if section.name == "metrics").frame.to_dicts()
    gating = [row for row in rows if row["verdict"] != "information"]
    failures = sum(row["verdict"] == REGRESSED for row in gating)
    errors = sum(row["verdict"] == INCONCLUSIVE for row in gating)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="netrec compare" tests="{len(gating)}" failures="{failures}" errors="{errors}">',
    ]
    for row in gating:
        case = f'  <testcase classname="netrec.compare" name={quoteattr(row["metric"])}'
        if row["verdict"] in (REGRESSED, INCONCLUSIVE):
            kind = "failure" if row["verdict"] == REGRESSED else "error"
            message = quoteattr(printable(_message(row)))
            lines.append(f"{case}><{kind} type={quoteattr(row['verdict'])} message={message}/></testcase>")
        else:
            lines.append(f"{case}/>")
    return "\n".join([*lines, "</testsuite>", ""])


def _message(row: dict[str, Any]) -> str:
    if row["change"] is None or not math.isfinite(row["change"]):
        return row["reason"] or "no data"
    changed = f"{_percent(row['change'])} (95% interval {_percent(row['low'])} to {_percent(row['high'])})"
    return f"{changed}: {row['reason']}" if row["reason"] else changed


def _row(row: MetricVerdict) -> dict[str, Any]:
    scale, unit = (1000.0, "ms") if row.metric.unit == "us" else (1.0, row.metric.unit)
    return {
        "metric": row.metric.name,
        "baseline": row.measured[0] / scale,
        "candidate": row.measured[1] / scale,
        "unit": unit,
        "change": row.change,
        "low": row.low,
        "high": row.high,
        "q_value": row.q_value,
        "matters_from": row.threshold,
        "detectable": row.detectable,
        "raw_change": row.raw_change,
        "mix_change": row.mix_change,
        "effective_size": row.effective_size,
        "verdict": row.verdict,
        "reason": row.reason,
    }


def _shown(row: MetricVerdict) -> dict[str, str]:
    """The row as people read it."""
    return {
        "metric": row.metric.name,
        "verdict": row.verdict,
        "change": "from none" if _from_none(row) else _percent(row.change),
        "95% interval": f"{_percent(row.low)} to {_percent(row.high)}" if math.isfinite(row.low) else "-",
        "baseline": _value(row.measured[0], row.metric.unit),
        "candidate": _value(row.measured[1], row.metric.unit),
        "q": f"{row.q_value:.3f}" if math.isfinite(row.q_value) else "-",
        "matters from": _percent(row.threshold) if row.metric.gating else "-",
        "would see": _percent(row.detectable),
        "mix part": _percent(row.mix_change),
        "n": f"{row.effective_size:.0f}" if math.isfinite(row.effective_size) else "-",
        "note": row.reason,
    }


def _value(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "-"
    if unit == "us":
        return format_latency(value)
    if unit == "share":
        return f"{value:.3%}"
    return f"{format_size(value)}{unit.removeprefix('byte')}" if unit.startswith("byte") else f"{value:.4g} {unit}"


def _percent(value: float, digits: int = 1) -> str:
    if not math.isfinite(value):
        return "-"
    return f"{value:+.{digits}%}" if abs(value) < 10 else f"x{1 + value:.0f}"


def _side(measured: Measured) -> dict[str, Any]:
    from analyze.moments import iso

    return {
        "since": iso(measured.window.start),
        "until": iso(measured.window.end),
        "seconds": measured.window.seconds,
        "rows": measured.rows,
        "buckets": measured.window.buckets,
        "events_seen": measured.quality.events_seen,
        "events_lost": measured.quality.events_lost,
        "gaps": measured.quality.gaps,
    }


def _notes(assessment: Assessment, edges: pl.DataFrame) -> list[str]:
    notes = [*assessment.gate.inconclusive, *assessment.gate.warnings]
    shifted = [row for row in assessment.rows if row.metric.gating and row.mix_shift]
    if shifted:
        row = shifted[0]
        notes.insert(
            0,
            f"MIX SHIFT: {_name(row)} changed by {_percent(row.raw_change, 0)} as it was, by {_percent(row.change, 0)} "
            "at the same mix of services, peers and directions: who asks has changed, not only how it goes",
        )
    if assessment.comparable < 0.8:
        notes.append(
            f"only {assessment.comparable:.0%} of the baseline's traffic is of a kind that the candidate has, too; "
            "the rest could not be compared"
        )
    new, gone = ((edges["change"] == change).sum() if edges.height else 0 for change in ("new", "vanished"))
    if new or gone:
        notes.append(f"{new} client-to-service edges are new, {gone} have vanished")
    return notes


def _pairing_notes(baseline: Measured, candidate: Measured, paired: Pairing | None) -> list[str]:
    windows = [(side.window.start, side.window.end) for side in (baseline, candidate)]
    if paired:
        of_all = [f"{len(paired)} of the {side}'s {len(whole_hours(*window))}" for side, window in
                  zip(("baseline", "candidate"), windows, strict=True)]  # fmt: skip
        lost = "; no weekday is in both: its part is not told apart" if paired.by == "hour of day" else ""
        return [f"paired by {paired.by}: {' and '.join(of_all)} whole hours are compared{lost}"]
    if applies(windows[0], windows[1]):
        return ["too few hours of the day are in both windows to pair them: the time of day is not told apart"]
    return []


def _name(row: MetricVerdict) -> str:
    return row.metric.title


def _from_none(row: MetricVerdict) -> bool:
    """A ratio that had no event before: how many times more it is depends on how long nothing was seen."""
    return row.measured[0] == 0 < row.measured[1]


def _interval(row: MetricVerdict) -> str:
    if _from_none(row):
        return f"from none to {_value(row.measured[1], row.metric.unit)}"
    return f"{_percent(row.change, 0)} (95% interval {_percent(row.low, 0)} to {_percent(row.high, 0)})"


def _where(contributions: pl.DataFrame, row: MetricVerdict) -> str:
    if contributions.is_empty():
        return ""
    own = contributions.filter(pl.col("metric") == row.metric.name)
    if own.is_empty():
        return ", spread over the traffic"
    first = own.row(0, named=True)
    share = min(first["share_of_change"], 1.0)
    part = "all" if share > 0.95 else f"{share:.0%}"
    return f", {part} of it in {first['dimension']} {first['value']}"
