"""`netrec compact`: many small files of a trace become few; exit 1 when damaged ones were left alone."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from analyze import compaction
from analyze.render.table import write_rows
from analyze.result import Column
from netrec.errors import TraceError, UsageError
from netrec.text import format_size, parse_duration, parse_size, printable

_TABLES = [
    Column("table", "VARCHAR"), Column("files", "BIGINT", "count"), Column("merged", "BIGINT", "count"),
    Column("files_after", "BIGINT", "count"),
    Column("size", "BIGINT", "bytes"), Column("size_after", "BIGINT", "bytes"),
]  # fmt: skip
_PATIENCE = 1.0


@click.command("compact")
@click.argument("traces", nargs=-1, metavar="[TRACE]...")
@click.option(
    "--target-size", metavar="SIZE", default="256MB", show_default=True, help="Make files of about this size."
)
@click.option(
    "--older-than",
    metavar="TIME",
    default="1h",
    show_default=True,
    help="Leave files of hours alone that ended more recently.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(traces: tuple[str, ...], target_size: str, older_than: str, dry_run: bool, as_json: bool) -> int:
    """Merge the many small files of a trace into fewer, larger ones: rows and answers stay the same.

    Files are merged that follow each other in one table, hour, host and capture. Recorders and analyses may run
    meanwhile; a run that is killed leaves the trace whole. Damaged files are named and left alone.
    """
    size, age = _parsed(parse_size, "--target-size", target_size), _parsed(_age, "--older-than", older_than)
    before = datetime.now(UTC) - timedelta(seconds=age)
    reports = []
    for trace in traces or ("trace",):
        folder = Path(trace).absolute()
        outcome = _run(folder, size, before, dry_run)
        reports.append({"trace": str(folder), "dry_run": dry_run, **_for_json(outcome)})
        if not as_json:
            _show(folder, outcome, dry_run)
        for line in [*outcome.damaged, *(f"removed {path}: it had been merged before" for path in outcome.removed)]:
            print(f"netrec: {printable(str(line))}", file=sys.stderr)
    if as_json:
        print(json.dumps(reports[0] if len(reports) == 1 else reports, indent=2))
    return 1 if any(report["damaged"] for report in reports) else 0


def _age(text: str) -> float:
    return parse_duration(text, allow_zero=True)


def _parsed(parse: Any, option: str, text: str) -> Any:
    try:
        return parse(text)
    except ValueError as problem:
        raise UsageError(f"{option}: {problem}") from None


def _run(folder: Path, size: int, before: datetime, dry_run: bool) -> compaction.Outcome:
    begun, shown = time.monotonic(), False
    outcome = compaction.Outcome()
    try:
        for outcome in compaction.compact(folder, size, before, dry_run):
            if sys.stderr.isatty() and time.monotonic() - begun > _PATIENCE:
                done = sum(count.merged for count in outcome.tables.values())
                sys.stderr.write(f"\rmerging: {done:,} files\x1b[K")
                sys.stderr.flush()
                shown = True
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise TraceError(
            f"cannot write to {str(folder)!r} ({reason})",
            "free some space, or run as the user who recorded it; the trace is whole as it is",
        ) from None
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
    return outcome


def _for_json(outcome: compaction.Outcome) -> dict[str, Any]:
    return {
        "tables": {name: asdict(count) for name, count in outcome.tables.items()},
        "damaged": [str(skipped) for skipped in outcome.damaged],
        "removed": [str(path) for path in outcome.removed],
    }


def _show(folder: Path, outcome: compaction.Outcome, dry_run: bool) -> None:
    counts = outcome.tables.items()
    rows = [
        [name, count.files, count.merged, count.files_after, count.size, count.size_after] for name, count in counts
    ]
    write_rows(_TABLES, rows, sys.stdout, UTC, sys.stdout.isatty())
    files, after = (sum(getattr(count, what) for _, count in counts) for what in ("files", "files_after"))
    size = format_size(sum(count.size for _, count in counts))
    if dry_run:
        line = f"{folder}: {files:,} files of {size} would become {after:,}"
    elif files == after:
        line = f"{folder}: nothing to merge in {files:,} files of {size}"
    else:
        size_after = format_size(sum(count.size_after or 0 for _, count in counts))
        line = f"{folder}: {files:,} files of {size} became {after:,} of {size_after}"
    print(printable(line))
