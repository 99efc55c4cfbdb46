"""`netrec report NAME`: an analysis as one HTML file to send, print and keep.

`overview` is made here. Every analysis written in Python is a report as it is: its answer has a sentence and sections,
which `analyze.answer` writes as a page when the format is html.
"""

from __future__ import annotations

from typing import Any

import click

from analyze.cli import ANALYSES
from analyze.options import Session, common_options
from netrec.cli import LazyGroup

DEFAULT_FILE = "report.html"


class ReportGroup(LazyGroup):
    """`overview`, and the analyses with HTML as their format."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = super().get_command(context, name)
        if found is not None and name in self.lazy:
            return _as_page(found)
        return found


def _as_page(command: click.Command) -> click.Command:
    parameters = []
    for parameter in command.params:
        if parameter.name in {"format", "plot"}:
            continue
        parameters.append(parameter)

    def run(**given: Any) -> Any:
        assert command.callback is not None
        given["output"] = given["output"] or DEFAULT_FILE
        return command.callback(**given, format="html", plot=False)

    return click.Command(
        command.name, callback=run, params=parameters, help=command.help, short_help=command.short_help
    )


@click.group("report", cls=ReportGroup, lazy=ANALYSES)
def command() -> None:
    """Write one self-contained HTML file: opens from a mail, on a phone and in print (default: report.html).

    \b
    netrec report overview trace -o report.html
    netrec report compare before after -o comparison.html
    """


@command.command("overview")
@common_options()
def overview(session: Session) -> None:
    """What a trace holds: who, when, how much, how well it went, and what the recorder missed."""
    from analyze import render
    from analyze.report import overview as content
    from analyze.report import page

    scan = session.open()
    text = page.render(content.page(session, scan))
    for skipped in scan.skipped:
        session.say(str(skipped))
    with render.opened(session.output or DEFAULT_FILE, "html") as stream:
        stream.write(text)
    session.say(f"wrote {session.output or DEFAULT_FILE}")
