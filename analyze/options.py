"""What every analysis command has in common: its options, opening the traces, and writing the answer.

A command written in Python is a module with a click command, registered in `analyze.cli.ANALYSES`:

    from analyze.options import Session, common_options

    @click.command("capacity")
    @click.option("--growth", default=0.0, help="...")
    @common_options()                                   # last decorator: adds TRACE... and the common options
    def command(session: Session, growth: float) -> int:
        scan = session.open()                           # an analyze.scan.Scan over TRACE..., windowed and filtered
        result = scan.query("select ... from flow where ... $growth", {"growth": growth},
                            columns=[Column("bytes", "BIGINT", "bytes", "...")], name="capacity")
        session.write(result, scan)                     # in the --format asked for, with window and losses under it
        return 0                                        # the exit code: 0 fine, 1 finding, 3 inconclusive

`session.open(folders, since=..., until=...)` opens other folders or another window with the same filter and time zone
(compare opens two). `scan.require("flows", "events")` makes views; `scan.has("events")` asks. `scan.fetch(sql)` gives
Python rows, `result.arrow()` an Arrow table. `session.query(scan, "top-talkers", by="service")` runs a query of the
catalogue. `session.result(scan, arrow_table, columns, name)` turns a computed Arrow table into a result to write.
`session.say(text)` is one sentence on stderr. `common_options(traces=False)` leaves TRACE... to the command, which then
passes folders to `open`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyze import context, engine, render
from analyze.window import zone
from netrec.errors import UsageError
from netrec.text import printable

if TYPE_CHECKING:
    import pyarrow

    from analyze.result import Column, Result
    from analyze.scan import Scan

DEFAULT_TRACE = "trace"


@dataclass
class Session:
    """The common options of one invocation."""

    traces: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    last: str | None = None
    filter: str = ""
    format: str = "table"
    utc: bool = False
    timezone: str | None = None
    output: str | None = None
    queries: tuple[str, ...] = ()

    @property
    def zone(self) -> tzinfo | None:
        """What times without an offset are in, and what tables show; None is the machine's own zone."""
        return UTC if self.utc else zone(self.timezone)

    @property
    def query_folders(self) -> list[Path]:
        """`--queries` and the user's own folder."""
        from analyze import catalogue

        return catalogue.user_folders([Path(folder) for folder in self.queries])

    def open(self, folders: Sequence[str | Path] = (), *, since: str | None = None, until: str | None = None) -> Scan:
        """Open TRACE... (or `folders`) with the common options; a window given here replaces theirs."""
        from analyze.scan import Scan

        own = since is None and until is None
        return Scan(
            folders or self.traces or [DEFAULT_TRACE],
            since=self.since if own else since,
            until=self.until if own else until,
            last=self.last if own else None,
            filter=self.filter,
            timezone=self.zone,
            shared_folders=self.query_folders,
        )

    def query(self, scan: Scan, name: str, **parameters: Any) -> Result:
        """Run a query of the catalogue."""
        from analyze import catalogue, run, shared

        found = catalogue.load(name, self.query_folders)
        return run.run(found, scan, parameters, shared.dimensions(self.query_folders))

    def result(self, scan: Scan, table: pyarrow.Table, columns: Sequence[Column], name: str) -> Result:
        """A computed Arrow table as a result to write."""
        engine.exchange_arrow()
        scan.connection.register("computed", table)
        try:
            return scan.query("select * from computed", columns=columns, name=name)
        finally:
            scan.connection.unregister("computed")

    def write(self, result: Result, scan: Scan) -> None:
        """Write the result to stdout or `-o FILE` in the format asked for; files left out are named on stderr."""
        result.context = context.of(scan)
        for skipped in result.context.skipped:
            self.say(skipped)
        with render.opened(self.output, self.format) as stream:
            render.write(result, self.format, stream, self.zone, colour=self.output is None)
        if self.format not in render.SHOWS_CONTEXT:
            for line in context.warnings(result.context, self.zone):
                self.say(line)

    def say(self, text: str) -> None:
        """One sentence on stderr."""
        print(f"netrec: {printable(text)}", file=sys.stderr)


def common_options(traces: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that adds the common options and passes them on as one `Session`, the first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def with_session(**given: Any) -> Any:
            names = [parameter.name for parameter in parameters if parameter.name]
            plot = given.pop("plot")
            session = Session(**{name: given.pop(name) for name in names if name != "plot"})
            if plot and session.format:
                raise UsageError("--plot and --format exclude each other", "give one of them")
            wanted = render.format_of(session.output)
            session.format = session.format or (wanted if not plot or wanted in render.DRAWN else "plot")
            if session.utc and session.timezone:
                raise UsageError("--utc and --timezone exclude each other", "give one of them")
            if session.format in render.BINARY and session.output is None and sys.stdout.isatty():
                raise UsageError(f"{session.format} is not for a terminal", "add -o FILE")
            return function(session, **given)

        parameters: list[click.Parameter] = [*([_traces()] if traces else []), *_options()]
        # Where click.option collects the parameters of a function, last first.
        with_session.__click_params__ = [*reversed(parameters)]  # type: ignore[attr-defined]
        return with_session

    return decorate


def _traces() -> click.Argument:
    return click.Argument(["traces"], nargs=-1, metavar="[TRACE]...")


def _options() -> list[click.Option]:
    return [
        click.Option(
            ["--since"], metavar="TIME", help="From this time: 2026-11-22T20:03, 14:03, or -15m from the trace's end."
        ),
        click.Option(["--until"], metavar="TIME", help="Up to this time, exclusive."),
        click.Option(["--last"], metavar="DURATION", help="The last part of the trace, e.g. 15m."),
        click.Option(
            ["--filter"],
            default="",
            metavar="EXPRESSION",
            help='As for tcpdump ("tcp port 443") or SQL over the fields.',
        ),
        click.Option(
            ["--format"],
            type=click.Choice(list(render.FORMATS)),
            help="Form of the answer.  [default: what FILE's name says, else table]",
        ),
        click.Option(["--plot"], is_flag=True, help="Draw the chart; -o FILE.svg or FILE.png writes it."),
        click.Option(["--utc"], is_flag=True, help="Read and show times in UTC."),
        click.Option(["--timezone"], metavar="ZONE", help="Read and show times in this zone, e.g. Europe/Berlin."),
        click.Option(["-o", "--output"], metavar="FILE", help="Write the answer to this file."),
        click.Option(
            ["--queries"], multiple=True, metavar="DIR", help="A folder of your own .sql queries (repeatable)."
        ),
    ]
