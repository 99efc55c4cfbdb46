"""`netrec record`: options from the common settings and those of every source, then the pipeline.

Nothing heavy is imported until everything that the user typed is known to be good.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from netrec.errors import CannotRecordError, FilterError, UsageError
from netrec.filter import Filter
from netrec.text import format_duration, format_size
from netrec.trace.metadata import CaptureMetadata
from recorder import settings as configuration
from recorder.source import CaptureContext, Effort, Setting, Source, SourceSpecification, discover, find

_SHORT = {"output": "-o"}


class _SettingOption(click.Option):
    """An option made from a setting; `group` is the heading in the help that it stands under."""

    def __init__(self, setting: Setting, group: str) -> None:
        flag = setting.parse is bool
        shown = "" if flag or setting.default in (None, "", ()) else f"  [default: {_shown(setting)}]"
        names = [f"--{setting.name}", configuration.key(setting.name)]
        if setting.name in _SHORT:
            names.insert(0, _SHORT[setting.name])
        super().__init__(
            names,
            is_flag=flag,
            default=None,
            multiple=setting.repeatable,
            metavar=None if flag else setting.metavar or "TEXT",
            help=setting.help + shown,
        )
        self.group = group


class RecordCommand(click.Command):
    """Shows the options of each source under a heading of its own."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record:
                groups.setdefault(getattr(parameter, "group", "Options"), []).append(record)
        for name, rows in groups.items():
            with formatter.section(name):
                formatter.write_dl(rows)


def _shown(setting: Setting) -> str:
    """The default as the user would write it."""
    default = setting.default
    if setting.metavar == "TIME":
        return format_duration(default).replace(" ", "").replace("00s", "").replace(".0", "")
    if setting.metavar == "SIZE":
        return f"{default >> 20}MiB" if default % 2**20 == 0 else format_size(default).replace(" ", "")
    if isinstance(default, tuple):
        return ",".join(str(one) for one in default)
    return str(default)


def settings_of(sources: Iterable[SourceSpecification]) -> tuple[list[Setting], dict[str, str]]:
    """Every setting once, and the source that each source's own belongs to."""
    every = {setting.name: setting for setting in configuration.COMMON}
    owner: dict[str, str] = {}
    for source in sources:
        for setting in source.settings:
            if setting.name not in every:
                every[setting.name] = setting
                owner[setting.name] = source.name
    return list(every.values()), owner


def _command() -> click.Command:
    sources = discover()
    settings, owner = settings_of(sources.values())
    options: list[click.Parameter] = []
    for setting in settings:
        group = f"Source {owner[setting.name]}" if setting.name in owner else "Options"
        options.append(_SettingOption(setting, group))
    options += [
        click.Option(
            ["--config"], metavar="FILE", type=click.Path(path_type=Path), help="Read settings from this file."
        ),
        click.Option(["--config-dump"], is_flag=True, help="Show the settings in force and their origins; end."),
        click.Option(["--dry-run"], is_flag=True, help="Show all that would be put in place; change nothing; end."),
    ]
    return RecordCommand(
        "record",
        params=options,
        callback=_record,
        help="Record this host's traffic into a trace folder, until Ctrl-C or --duration.\n\n"
        "\b\n"
        "netrec record -o trace --duration 1h\n"
        "netrec analyze top-talkers trace\n\n"
        "SIGHUP finishes the current files at once. Settings may also come from NETREC_* variables "
        "(NETREC_OUTPUT, ...) and from the table [record] of a TOML file.",
        epilog="Sources: " + "; ".join(f"{one.name}: {one.summary}" for one in sources.values()),
    )


def _record(config: Path | None, config_dump: bool, dry_run: bool, **given: Any) -> int:
    from recorder import memory

    memory.prepare()
    sources = discover()
    settings, owner = settings_of(sources.values())
    typed = {name: value for name, value in given.items() if value not in (None, ())}
    resolved = configuration.resolve(settings, typed, config)
    if config_dump:
        click.echo(configuration.dump(resolved, settings))
        return 0
    values = {name: one.value for name, one in resolved.items()}
    chosen = _chosen(values)
    _refuse_strangers(typed, owner, chosen)
    _check_filter(values["filter"], chosen, values["quiet"])
    if dry_run:
        for source in chosen:
            click.echo(source.explain(values) if source.explain else f"# {source.name}: nothing outside this process")
        return 0
    for source in chosen:
        readiness = source.can_run(values)
        if not readiness.ready:
            raise CannotRecordError(f"source {source.name} cannot record here: {readiness.reason}", readiness.fix)
    trace: Path = values["output"]
    _check_output(trace)
    return _run(trace, chosen, values)


def _chosen(values: Mapping[str, Any]) -> list[SourceSpecification]:
    """The sources that were named, and those that a setting of theirs asks for."""
    implied = [one.name for one in discover().values() if one.implied_by and values[configuration.key(one.implied_by)]]
    if not values["source"]:
        raise UsageError("no source is named", f"the sources are {', '.join(discover())}")
    return [find(name) for name in dict.fromkeys([*values["source"], *implied])]


def _refuse_strangers(
    typed: Mapping[str, Any], owner: Mapping[str, str], chosen: Sequence[SourceSpecification]
) -> None:
    """An option of a source that does not record would be without effect: say so."""
    taking = {setting.name for source in chosen for setting in source.settings}
    for name, source in owner.items():
        if configuration.key(name) in typed and name not in taking:
            raise UsageError(f"--{name} is of source {source}, which is not recording", f"add --source {source}")


def _check_filter(given: Filter | None, chosen: Sequence[SourceSpecification], quiet: bool) -> None:
    """Whether every source can tell what the filter asks for; raises `FilterError` or `UsageError`."""
    if given is None:
        return
    for source in chosen:
        owners = given.owners()
        if source.filters == "addresses" and owners:
            raise FilterError(
                f"source {source.name} cannot tell the {owners[0].kind} of a session",
                "ask it for host, net, port, portrange and protocols",
                text=given.text,
                span=owners[0].span,
            )
        if source.filters == "none" and not quiet:
            click.echo(f"netrec: source {source.name} has no flows to filter: it records all that it reads", err=True)
    if all(source.filters == "none" for source in chosen):
        raise UsageError("--filter has no flows to select among", "leave it out, or add a source of flows")


def _check_output(trace: Path) -> None:
    """The trace folder exists (or can be made) and can be written; raises `UsageError`."""
    existing = trace
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"output {trace} cannot be a folder: {existing} is a file", "give another folder with -o")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"output {trace} cannot be written: no permission in {existing}", "give another with -o")
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        raise UsageError(f"output {trace} cannot be written: {existing} is read-only", "give another with -o")


def _run(trace: Path, chosen: list[SourceSpecification], values: dict[str, Any]) -> int:
    from recorder import host

    capture = host.describe(chosen, values)
    with ExitStack() as stack:
        # First of all: a source may have a compiler at work while everything heavy is imported here.
        sources: dict[str, Source] = {}
        for specification in chosen:
            source = specification.create(CaptureContext(capture.host, capture.capture, values))
            stack.callback(source.close)
            sources[specification.name] = source
        return _record_from(sources, trace, _with_definitions(capture, sources.values()), values)


def debugging() -> bool:
    """Whether the user asked for more words (`netrec.cli` takes --debug off the line)."""
    return "--debug" in sys.argv or bool(os.environ.get("NETREC_DEBUG"))


def _with_definitions(capture: CaptureMetadata, sources: Iterable[Source]) -> CaptureMetadata:
    """The capture's metadata with the tables that are not built in."""
    found: dict[str, Any] = {}
    for source in sources:
        found |= getattr(source, "definitions", dict)()
    return replace(capture, tables=sorted({*capture.tables, *found}), definitions=found) if found else capture


def _record_from(
    sources: Mapping[str, Source], trace: Path, capture: CaptureMetadata, values: Mapping[str, Any]
) -> int:
    from recorder import memory

    memory.configure()
    from recorder import pipeline, privileges, progress
    from recorder.budget import Budget
    from recorder.retention import Retention

    watcher: progress.Quiet | progress.Sentences | progress.JsonLines
    if values["json"]:
        watcher = progress.JsonLines()
    elif values["quiet"]:
        watcher = progress.Quiet()
    else:
        watcher = progress.LiveLine() if sys.stderr.isatty() else progress.Sentences()

    def started() -> None:
        kept = privileges.give_up(sources.items(), trace)
        if debugging():
            click.echo(f"netrec: {kept}", err=True)

    plan = pipeline.Plan(
        trace=trace,
        sources=sources,
        capture=capture,
        duration=values["duration"],
        rotate_interval=values["rotate_interval"],
        rotate_size=values["rotate_size"],
        effort=Effort(values["sample"] or 1, values["active_timeout"]),
        budget=Budget(values["max_cpu"], values["max_memory"], values["max_disk_rate"]),
        filter=values["filter"],
        retention=Retention(values["keep_age"], values["keep_size"]),
        minimum_free=values["min_free"],
        started=started,
    )
    try:
        status = pipeline.Pipeline(plan, watcher).run()
    except OSError as problem:
        raise UsageError(f"output {trace} cannot be written ({problem.strerror})", "give another with -o") from None
    # What ebpf has seen is asked for first where there is more than one source.
    first = "ebpf" if "ebpf" in sources else next(iter(sources))
    then = f"netrec {find(first).first_question} {shlex.quote(str(trace))}"
    watcher.done(status, then)
    if values["json"] and not values["quiet"]:
        progress.Sentences().done(status, then)
    return 0


command = _command()
