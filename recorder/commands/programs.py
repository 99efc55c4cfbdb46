"""`netrec programs`: users' own eBPF programs: which there are, what they record, and whether they work here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from netrec.errors import CannotRecordError, NetrecError, ProgramError
from netrec.text import printable
from netrec.trace.definition import Origin, describe
from recorder import settings as configuration
from recorder.commands.record import settings_of
from recorder.source import discover
from recorder.sources.program import can_run, program_file, signatures
from recorder.sources.program.build import verify
from recorder.sources.program.program_file import Program


@click.group("programs", help="Your own eBPF programs for netrec record --program: list, show and check them.")
def command() -> None:
    pass


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_them(as_json: bool) -> int:
    """List the programs that --program knows by name: yours, this host's and those that come with netrec.

    They are looked for in ~/.config/netrec/programs, /etc/netrec/programs, and netrec itself.
    """
    found = [_entry(path) for path in program_file.available()]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return 0
    for entry in found:
        click.echo("\t".join(printable(str(entry[key])) for key in ("name", "table", "signature", "summary")))
    return 0


@command.command("show")
@click.argument("program")
def show(program: str) -> int:
    """Show what PROGRAM (a file or a name) is for, its table with every column, and where it hooks in."""
    found = program_file.load(program)
    table = found.annotation.table
    click.echo(printable(f"{found.path}: {signatures.state(found, _signers())}"))
    click.echo()
    for line in found.annotation.description.splitlines():
        click.echo(printable(line))
    click.echo()
    click.echo(printable(f"table {table.name}: {table.meaning}"))
    click.echo()
    kinds = describe(table, Origin())["fields"]
    rows = [("column", "type", "unit", "meaning"), *(tuple(row[index] for index in (0, 1, 2, 3)) for row in kinds)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]
        click.echo(printable("  ".join(cells).rstrip()))
    click.echo()
    for hook in found.annotation.hooks:
        click.echo(printable(f"{hook.function} runs at {hook.section}"))
    click.echo()
    click.echo(printable(f"record it: netrec record --program {_argument(found)}"))
    return 0


@command.command("check")
@click.argument("programs", nargs=-1, required=True, metavar="PROGRAM...")
def check(programs: tuple[str, ...]) -> int:
    """Compile each PROGRAM (a file or a name) and let the kernel verify it, without attaching anything; needs root.

    Ends with 2 when one is refused, and shows why and where.
    """
    readiness = can_run({})
    if not readiness.ready:
        raise CannotRecordError(readiness.reason, readiness.fix)
    problems: list[NetrecError] = []
    for name in programs:
        try:
            found = program_file.load(name)
            signers = _signers()
            if signers:
                signatures.require(found, signers)
            verify(found)
        except NetrecError as problem:
            problems.append(problem)
            continue
        functions, table = len(found.annotation.hooks), found.annotation.table
        click.echo(
            printable(
                f"{found.path.name}: compiled, and accepted by the kernel's verifier: table {table.name} "
                f"with {len(table.fields)} columns, {functions} function{'s' if functions > 1 else ''}"
            )
        )
    for earlier in problems[:-1]:
        click.echo(f"netrec: {printable(str(earlier))}", err=True)
        for line in earlier.details:
            click.echo(f"  {printable(line)}", err=True)
    if problems:
        sys.stdout.flush()
        raise problems[-1]
    return 0


def _entry(path: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": path.name.removesuffix(program_file.SUFFIX), "path": str(path)}
    try:
        program = program_file.load(str(path))
        summary = " ".join(program.annotation.description.partition("\n\n")[0].split())
        return entry | {
            "table": program.annotation.table.name,
            "signature": signatures.state(program, _signers()),
            "summary": summary,
        }
    except ProgramError as problem:
        return entry | {"table": "", "signature": "", "summary": f"(cannot be used: {problem.message})"}


def _signers() -> str:
    """The list of signers that is in force, as `netrec record` would find it."""
    settings, _ = settings_of(discover().values())
    return str(configuration.resolve(settings, {})["program_signers"].value or "")


def _argument(program: Program) -> str:
    known = program.path.parent in program_file.folders()
    return program.name if known else str(program.path)
