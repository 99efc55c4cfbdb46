"""`netrec sql`: the user's own SELECT over the views of a trace."""

from __future__ import annotations

import sys

import click

from analyze import sandbox
from analyze.options import Session, common_options


@click.command("sql")
@click.argument("statement")
@common_options()
def command(session: Session, statement: str) -> None:
    """Run one SELECT over a trace, read-only (`-` reads it from standard input).

    Tables: flows, events, host and health as recorded; flow is flows with every byte counted once, and with bytes,
    packets, retransmits and flows (its sum counts flows) as columns. Tables of your own programs (record --program) are
    there under their names. --since, --until and --filter apply to all.

    \b
    netrec sql 'select process_name, sum(bytes) from flow group by all order by 2 desc' trace
    """
    text = sys.stdin.read() if statement == "-" else statement
    scan = session.open()
    sandbox.check_select(scan.connection, text)
    for table in scan.tables:
        scan.has(table)
    session.write(scan.query(text, name="sql"), scan)
