"""`netrec verify`: exit 0 when every file of a trace or evidence bundle is whole, 1 with what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from analyze import files, spool, verification
from analyze.incident import evidence
from netrec.text import printable


@click.command("verify")
@click.argument("traces", nargs=-1, metavar="[TRACE]...")
def command(traces: tuple[str, ...]) -> int:
    """Check every file of a trace whole: readable, schema, metadata, row counts, and no file missing in between.

    An evidence bundle (the FILE of `netrec analyze incident --bundle`, or the folder that it was unpacked to) is held
    against its manifest: the SHA-256 of every member.
    """
    wrong = 0
    for trace in traces or ("trace",):
        folder = Path(trace).absolute()
        if evidence.is_bundle(folder):
            wrong += _bundle(folder)
            continue
        problems, good, rows = verification.problems_of(folder)
        for problem in problems:
            print(printable(problem))
        wrong += len(problems)
        print(printable(f"{folder}: {good} files with {rows:,} rows are whole, {len(problems)} problems"))
        for line in [*_spools(folder), *_replaced(folder)]:
            print(f"netrec: {printable(line)}", file=sys.stderr)
    return 1 if wrong else 0


def _bundle(path: Path) -> int:
    problems, good = evidence.problems_of(path)
    for problem in problems:
        print(printable(problem))
    print(printable(f"{path}: {good} members are as they were written, {len(problems)} problems"))
    return len(problems)


def _replaced(folder: Path) -> list[str]:
    found = [pair for table in files.tables_of([folder]) for pair in files.find_replaced(folder, table)]
    return [
        f"{path} was merged into {merged.name} and is no part of the trace any more: netrec compact {folder} removes it"
        for path, merged in found
    ]


def _spools(folder: Path) -> list[str]:
    lines = []
    captures = {found.file.folder: found for found in spool.find(folder, "*")}
    for capture, found in sorted(captures.items()):
        if found.running:
            lines.append(f"{capture.name} is being recorded")
        else:
            lines.append(f"{capture.name} was killed and left a spool: run netrec repair {folder}")
    return lines
