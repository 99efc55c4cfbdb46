"""`netrec analyze incident`: what changed, when, where, which known pattern fits, and what the recorder missed."""

from __future__ import annotations

import click

from analyze.extras import import_meanwhile, need_statistics
from analyze.options import Session, common_options
from netrec.errors import UsageError

LEAST_SECONDS = 24.0


@click.command("incident", short_help="What changed, when, where, and which known pattern fits?")
@click.option("--at", metavar="TIME", help="A moment in the incident: 14:03, 2026-11-20T14:03, -15m.")
@click.option("--window", metavar="START/END", help="The window to explain: 14:03/14:10, or 14:03/+5m.")
@click.option("--baseline", metavar="START/END", help="The quiet time to hold it against (default: just before).")
@click.option("--bundle", metavar="FILE", help="Also write the evidence to this file, for others to re-run.")
@common_options()
def command(session: Session, at: str | None, window: str | None, baseline: str | None, bundle: str | None) -> int:
    """Say when an incident began and ended, what moved first, where, and which known pattern its signals match.

    Without --at or --window it looks for unusual windows itself and explains the most unusual one. Exit code 0:
    nothing unusual, 1: a finding, 3: there is too little to say.

    \b
    netrec analyze incident trace --at 14:03
    netrec analyze incident trace --window 14:03/14:10 --baseline 13:00/13:30 --bundle evidence.zip
    """
    need_statistics()
    from analyze import answer
    from analyze.frames import recorded
    from analyze.incident import bundle as evidence
    from analyze.incident import document, explain, series
    from analyze.incident.windows import Span

    if at and window:
        raise UsageError("--at and --window exclude each other", "give one of them")
    scan = session.open()
    scan.require("flows")
    import_meanwhile()
    with recorded() as queries:
        extent = series.extent(scan)
        if extent is None:
            raise UsageError("the trace has no flow in this time window", "widen it, or see netrec inspect")
        whole = Span(*extent)
        if whole.seconds < LEAST_SECONDS:
            outcome = answer.Answer(
                "incident", f"Inconclusive: {whole.seconds:.0f} s of flows are too little to know what is usual.", 3,
                (), (), {"format": document.FORMAT, "window": None, "pattern": None},
            )  # fmt: skip
            return answer.write(outcome, session, scan)
        found, scans, outcome = explain.run(session, scan, whole, at, window, baseline)
    for skipped in scan.skipped:
        session.say(str(skipped))
    if bundle:
        text = answer.as_text(outcome, session, scan) if session.format == "table" else outcome.sentence
        evidence.write(bundle, outcome, text, scans, queries, explain.rerun_arguments(session, found))
    return answer.write(outcome, session, scan)
