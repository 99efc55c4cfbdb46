"""`netrec repair DIR`: what a killed recorder left behind becomes Parquet."""

from __future__ import annotations

from pathlib import Path

import click

from netrec.errors import NetrecError, TraceError
from netrec.text import printable


@click.command("repair")
@click.argument("trace", type=click.Path(path_type=Path), metavar="DIR")
def command(trace: Path) -> int:
    """Turn what a killed recorder left behind in the trace DIR into Parquet files, up to the last whole batch.

    The next `netrec record` into the same folder does this too. What a running recorder holds is left alone; a second
    run finds nothing to do.
    """
    if not trace.is_dir():
        what = "is a file" if trace.exists() else "does not exist"
        raise TraceError(f"{trace} {what}", "give the folder that netrec record wrote to")
    from recorder.repair import repair_trace

    outcomes = []
    for outcome in repair_trace(trace):
        outcomes.append(outcome)
        click.echo(printable(outcome.sentence))
    failed = [outcome for outcome in outcomes if outcome.kind == "failed"]
    if failed:
        raise NetrecError(f"{len(failed)} of {len(outcomes)} left-overs could not be repaired", "see above for why")
    if not outcomes:
        click.echo(f"nothing to repair in {printable(str(trace))}")
    return 0
