"""`netrec doctor`: which sources can run on this host, why not and what helps, and which of them suits it best."""

from __future__ import annotations

import json as encoder
import sys
from dataclasses import asdict

import click

from netrec.text import printable
from recorder.recommendation import Recommendation, facts, recommend
from recorder.source import Readiness, SourceSpecification, discover


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON: the sources and the recommendation.")
def command(as_json: bool) -> int:
    """Say for every source whether it can record here and, if not, why and the one command that helps.

    The last line recommends one for this host: whether it is a gateway, and which proxies run here, decides.
    """
    found = [(source, source.can_run({})) for source in discover().values()]
    advice = recommend(facts({source.name: readiness for source, readiness in found}))
    if as_json:
        records = [_record(source, readiness) for source, readiness in found]
        click.echo(encoder.dumps({"sources": records, "recommendation": asdict(advice)}, indent=2))
    elif sys.stdout.isatty():
        _table(found)
        _advise(advice)
    else:
        for source, readiness in found:
            parts = [source.name, "ready" if readiness.ready else "not ready", readiness.reason, readiness.fix]
            click.echo("\t".join(printable(part) for part in parts).rstrip("\t"))
        click.echo(f"recommended\t{printable(advice.sentence)}")
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


def _advise(advice: Recommendation) -> None:
    click.echo(f"\nRecommended: {printable(advice.sentence)}")


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
