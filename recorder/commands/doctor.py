"""`netrec doctor`: which sources can run on this host and, for those that can't, why and what helps."""

from __future__ import annotations

import json as encoder
import sys

import click

from netrec.text import printable
from recorder.source import Readiness, SourceSpecification, discover


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON: one object per source.")
def command(as_json: bool) -> int:
    """Say for every source whether it can record here and, if not, why and the one command that helps."""
    found = [(source, source.can_run({})) for source in discover().values()]
    if as_json:
        click.echo(encoder.dumps([_record(source, readiness) for source, readiness in found], indent=2))
    elif sys.stdout.isatty():
        _table(found)
    else:
        for source, readiness in found:
            parts = [source.name, "ready" if readiness.ready else "not ready", readiness.reason, readiness.fix]
            click.echo("\t".join(printable(part) for part in parts).rstrip("\t"))
    return 0


def _record(source: SourceSpecification, readiness: Readiness) -> dict[str, object]:
    return {
        "source": source.name,
        "summary": source.summary,
        "tables": list(source.tables),
        "ready": readiness.ready,
        "reason": readiness.reason,
        "fix": readiness.fix,
    }


def _table(found: list[tuple[SourceSpecification, Readiness]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("source", "state", "why", "what helps"):
        table.add_column(column, overflow="fold")
    for source, readiness in found:
        state = Text("ready", "green") if readiness.ready else Text("not ready", "red")
        why = source.summary if readiness.ready else readiness.reason
        table.add_row(Text(source.name), state, Text(printable(why)), Text(printable(readiness.fix), "cyan"))
    Console().print(table)
