"""`netrec analyze compare`: two captures held against each other, with a verdict and an exit code for pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from analyze.extras import import_meanwhile, need_statistics
from analyze.options import Session, common_options
from netrec.errors import UsageError
from netrec.text import folder_names

if TYPE_CHECKING:
    from analyze.statistics.metrics import Metric
    from analyze.statistics.quality import CaptureQuality

SCHEMA = Path(__file__).parent.parent / "compare" / "schema.json"


def _show_schema(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        click.echo(SCHEMA.read_text(encoding="utf-8"), nl=False)
        context.exit(0)


@click.command("compare", short_help="Is this capture worse than that one, where, and how sure is that?")
@click.argument("traces", nargs=-1, metavar="BASELINE [CANDIDATE]")
@click.option("--baseline", metavar="START/END", help="Compare with this window of the trace: 10:00/11:00.")
@click.option("--candidate", metavar="START/END", help="The window to judge (default: all after the baseline).")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Only this metric (repeatable); life_p50, life_p95 and duration_p50, of connections, on request only.",
)
@click.option("--fail-on", multiple=True, metavar="NAME", help="Only this metric decides (repeatable).")
@click.option(
    "--delta", "deltas", multiple=True, metavar="[NAME=]PERCENT", help="The change that begins to matter, e.g. 10%."
)
@click.option("--by", multiple=True, metavar="DIMENSION", help="Slice by this dimension only (repeatable).")
@click.option("--junit", metavar="FILE", help="Also write a JUnit XML report to this file.")
@click.option(
    "--schema", is_flag=True, is_eager=True, expose_value=False, callback=_show_schema, help="Print the JSON's schema."
)
@common_options(traces=False)
def command(
    session: Session,
    traces: tuple[str, ...],
    baseline: str | None,
    candidate: str | None,
    metrics: tuple[str, ...],
    fail_on: tuple[str, ...],
    deltas: tuple[str, ...],
    by: tuple[str, ...],
    junit: str | None,
) -> int:
    """Say whether the candidate is worse than the baseline: by how much, where, and whether it could have been seen.

    Give two traces, or one trace and a window of it as --baseline. Exit code 0: pass or improved, 1: regressed,
    2: an error or captures that cannot be compared, 3: inconclusive (missing data is never a pass).

    \b
    netrec analyze compare before after
    netrec analyze compare trace --baseline 2026-11-20T10:00/11:00 --candidate 12:00/13:00
    netrec analyze compare before after --fail-on connect_p95 --delta connect_p95=20% --junit report.xml
    """
    need_statistics()
    from analyze.compare import first_pass, windows

    chosen = choose(metrics, deltas, fail_on)
    if by:
        _check_dimensions(by)
    scans = windows.open_sides(session, traces, baseline, candidate)
    for scan in scans:
        scan.require("flows")
    with first_pass.begun(scans) as passes:
        from analyze import answer
        from analyze.compare import document, explain, measure, survival
        from analyze.frames import at_once, recorded
        from analyze.statistics.assessment import Window, assess
        from analyze.statistics.comparison import REGRESSED

        import_meanwhile()  # after the others: two threads that import the same thing wait for each other
        firsts = [one.result() for one in passes]
    outlines = [measure.outline(scan, first) for scan, first in zip(scans, firsts, strict=True)]
    for name, outline in zip(("baseline", "candidate"), outlines, strict=True):
        if outline is None:
            raise UsageError(f"the {name} has no flow in its window", "widen the window, or see netrec inspect")
    before, after = (outline for outline in outlines if outline)
    qualities = [
        measure.quality_of(scan, outline.sampling) for scan, outline in zip(scans, (before, after), strict=True)
    ]
    refuse(qualities[0], qualities[1])
    before, after, paired = measure.paired(before, after, session.zone)
    strata = measure.name_strata(before.combinations, after.combinations)
    further = {metric.histogram for metric in chosen} & measure.ON_REQUEST.keys()
    with recorded() as measured:
        sides = at_once(partial(measure.measure, further=further), scans, (before, after), strata, qualities)
    windows_measured = [
        Window(one.window.seconds, one.buckets, one.counts, one.histograms, one.quality) for one in sides
    ]
    judged = [metric for metric in chosen if metric.kind != "survival"]
    assessment = assess(windows_measured[0], windows_measured[1], metrics=judged, fail_on=fail_on, paired=bool(paired))
    with recorded() as measured_lives:
        rows = [
            survival.judge(metric, survival.lives(scans[0], before.window), survival.lives(scans[1], after.window))
            for metric in chosen
            if metric.kind == "survival"
        ]
    assessment = replace(assessment, rows=(*assessment.rows, *rows))
    regressed = [row for row in assessment.rows if row.verdict == REGRESSED]
    with recorded() as sliced:
        contributions = explain.contributions(*scans, after.window, regressed, by, after.least_sampling)
    edges = explain.edges(before.combinations, after.combinations)
    asked = {"metrics": [*measured, *measured_lives], "slices": sliced, "edges": [first.sql for first in firsts]}
    outcome = document.build(assessment, sides[0], sides[1], contributions, edges, fail_on, asked, paired)
    outcome = replace(outcome, subject=" with ".join(reversed(folder_names(traces))))
    if junit:
        from analyze.render import opened

        with opened(junit, "junit") as stream:
            stream.write(document.junit(outcome))
    for scan in scans:
        for skipped in scan.skipped:
            session.say(str(skipped))
    return answer.write(outcome, session, scans[1])


def choose(names: Sequence[str], deltas: Sequence[str], fail_on: Sequence[str]) -> list[Metric]:
    """The metrics to judge, with their thresholds; raises `UsageError` for a name or a percentage that is none."""
    from analyze.statistics.metrics import BY_NAME, METRICS

    for name in [*names, *fail_on]:
        if name not in BY_NAME:
            raise UsageError(f"there is no metric {name!r}", f"the metrics are {', '.join(BY_NAME)}")
    idle = [name for name in fail_on if not BY_NAME[name].gating]
    if idle:
        raise UsageError(f"--fail-on: {idle[0]} is informational", "it has no bad direction")
    usual = names or [metric.name for metric in METRICS]
    chosen = {name: BY_NAME[name] for name in BY_NAME if name in usual or name in fail_on}
    for text in deltas:
        name, equals, number = text.rpartition("=")
        if equals and name not in BY_NAME:
            raise UsageError(f"--delta: there is no metric {name!r}", f"the metrics are {', '.join(BY_NAME)}")
        value = _percentage(number)
        for key, metric in chosen.items():
            if not equals or key == name:
                chosen[key] = metric.with_delta(value)
    return list(chosen.values())


def refuse(baseline: CaptureQuality, candidate: CaptureQuality) -> None:
    """Raise `UsageError` when two captures cannot be compared."""
    from analyze.statistics.quality import gate

    refusals = gate(baseline, candidate).refusals
    if refusals:
        raise UsageError(
            f"these captures cannot be compared: {'; '.join(refusals)}", "record both sides with the same options"
        )


def _check_dimensions(by: Sequence[str]) -> None:
    from analyze.compare.explain import DIMENSIONS

    for name in by:
        if name not in DIMENSIONS:
            raise UsageError(f"--by: there is no dimension {name!r}", f"the dimensions are {', '.join(DIMENSIONS)}")


def _percentage(text: str) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise UsageError(f"--delta: {text!r} is not a percentage", "write for example 10%") from None
    if not 0 <= value < 100:
        raise UsageError(f"--delta: {text!r} is out of range", "write a percentage from 0 up, for example 10%")
    return value
