"""`netrec schedule`: recordings at fixed times, by cron or systemd."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from netrec.errors import UsageError
from netrec.text import format_duration, printable
from recorder.schedule import definition, install
from recorder.schedule.cron import CronExpression
from recorder.schedule.definition import Schedule
from recorder.schedule.history import History, Run
from recorder.schedule.run import is_running
from recorder.schedule.run import run as run_now

DEFAULT_KEEP = ("--keep-age", "14d")


@click.group("schedule", help="Record at fixed times: add, list, remove and run schedules.")
def command() -> None:
    pass


@command.command(
    "add",
    context_settings={"ignore_unknown_options": True},
    epilog="Example: netrec schedule add hourly --cron '0 * * * *' -- record --duration 10m -o /var/lib/netrec/trace",
)
@click.argument("name")
@click.option("--cron", "cron", required=True, metavar="EXPR", help="When: minute, hour, day of month, month, weekday.")
@click.option("--systemd", is_flag=True, help="Start it by a systemd timer, not by cron.")
@click.option("--replace", is_flag=True, help="Replace the schedule of that name, if there is one.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def add(name: str, cron: str, systemd: bool, replace: bool, arguments: tuple[str, ...]) -> int:
    """Make a schedule NAME that runs `netrec record` with these ARGUMENTS (after `-- record`).

    Relative paths are relative to the folder where it is added. Two runs of one schedule never overlap. Without
    --keep-age or --keep-size files are deleted after 14 days.
    """
    definition.check_name(name)
    try:
        expression = CronExpression.parse(cron)
    except ValueError as problem:
        raise UsageError(f"--cron: {problem}", "see man 5 crontab") from None
    existing = name in definition.names()
    if existing and not replace:
        raise UsageError(f"there is a schedule {name!r} already", "remove it, add --replace, or take another name")
    wanted = _checked(arguments)
    schedule = Schedule(
        name=name,
        cron=" ".join(cron.split()),
        arguments=wanted,
        directory=str(Path.cwd()),
        starter="systemd" if systemd else "cron",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=[sys.executable, "-m", "netrec"],
    )
    if existing:
        install.uninstall(definition.load(name))
    schedule.save()
    try:
        files = install.install(schedule)
    except UsageError:
        schedule.delete(purge=not existing)
        raise
    click.echo(f"schedule {name}: {', '.join(map(str, files))}; next run {_next(expression)}")
    if not (install.systemd_runs() if systemd else install.cron_runs()):
        starter = "systemd is" if systemd else "cron is"
        click.echo(f"{starter} not running on this host: nothing starts before it does", err=True)
    return 0


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with every run that is known.")
def list_(as_json: bool) -> int:
    """Show every schedule: when it runs next, how the last run went, how many were missed."""
    found = definition.names()
    if not found and not as_json:
        click.echo("no schedules; make one with: netrec schedule add NAME --cron '0 * * * *' -- record --duration 10m")
    for name in found:
        schedule = definition.load(name)
        runs = History(schedule.home / "runs.ndjson").entries()
        following = _next(CronExpression.parse(schedule.cron))
        if as_json:
            running = is_running(schedule)
            extra: dict[str, Any] = {"next": following, "running": running, "runs": [asdict(run) for run in runs]}
            click.echo(json.dumps(asdict(schedule) | extra))
            continue
        click.echo(f"{name}  {schedule.cron}  ({schedule.starter})  next {following}")
        click.echo(f"  netrec record {' '.join(map(printable, schedule.arguments))}")
        click.echo(f"  {_summary(runs, is_running(schedule))}")
        click.echo(f"  log {schedule.home / 'log'}")
    return 0


@command.command("remove")
@click.argument("name")
@click.option("--purge", is_flag=True, help="Delete its log and history, too. Traces always stay.")
def remove(name: str, purge: bool) -> int:
    """Remove the schedule NAME. A run that is going on goes on to its end."""
    schedule = definition.load(name)
    gone = install.uninstall(schedule)
    running = is_running(schedule)
    schedule.delete(purge=purge)
    click.echo(f"schedule {name} removed{': ' if gone else ''}{', '.join(map(str, gone))}")
    if running:
        click.echo("its present run goes on to its end", err=True)
    return 0


@command.command("run")
@click.argument("name")
def run(name: str) -> int:
    """Run the schedule NAME now: what cron and systemd call. Its output goes to the schedule's log."""
    return run_now(definition.load(name))


def _checked(arguments: tuple[str, ...]) -> list[str]:
    """The arguments of `record`, tried out as far as that goes without recording; with a retention."""
    if not arguments or arguments[0] != "record":
        raise UsageError("what to run is missing", "end the line with: -- record --duration 10m -o DIR")
    wanted = list(arguments[1:])
    from recorder.commands.record import command as record

    try:
        with record.make_context("record", list(wanted)) as context:
            given = context.params
    except click.exceptions.Exit:
        raise UsageError("--help is nothing to run", "write the arguments of a recording") from None
    if not given.get("duration"):
        raise UsageError("a scheduled recording needs an end", "add --duration, shorter than the time to the next run")
    if not given.get("keep_age") and not given.get("keep_size"):
        wanted += DEFAULT_KEEP
    # Everything that record itself refuses, it refuses now; what it would put in place is not shown here.
    with contextlib.redirect_stdout(io.StringIO()):
        record.main([*wanted, "--dry-run"], prog_name="netrec record", standalone_mode=False)
    return wanted


def _next(expression: CronExpression) -> str:
    return next(expression.after(datetime.now())).isoformat(sep=" ", timespec="minutes")


def _summary(runs: list[Run], running: bool) -> str:
    parts = ["running now"] if running else []
    finished = [run for run in runs if run.result in ("done", "failed")]
    if finished:
        last = finished[-1]
        took = format_duration(last.seconds)
        how = "done" if last.result == "done" else f"failed with exit code {last.exit_code} ({printable(last.detail)})"
        parts.append(f"last run {last.due.replace('T', ' ')}: {how}, took {took}")
    elif not running:
        parts.append("not run yet")
    for result in ("failed", "skipped", "missed"):
        count = sum(run.count for run in runs if run.result == result)
        if count:
            parts.append(f"{count} {result}")
    return "; ".join(parts)
