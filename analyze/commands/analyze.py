"""`netrec analyze NAME`: the queries of the catalogue and the analyses written in Python, as commands of one group."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from analyze import catalogue
from analyze.cli import ANALYSES
from analyze.header import Parameter, Query
from analyze.options import Session, common_options
from netrec.cli import LazyGroup

_SHORT = {"n": ["-n"]}


class QueryGroup(LazyGroup):
    """The analyses of `ANALYSES` and every query file, parsed only when it is invoked."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*super().list_commands(context), *catalogue.paths(_folders_on_the_line())]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self.lazy:
            return super().get_command(context, name)
        folders = _folders_on_the_line()
        if name not in catalogue.paths(folders):
            return None
        return query_command(catalogue.load(name, folders))

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        if self.lazy:
            with formatter.section("Analyses"):
                formatter.write_dl([(name, help) for name, (_, _, help) in self.lazy.items()])
        with formatter.section("Queries"):
            found = catalogue.paths(_folders_on_the_line())
            formatter.write_dl([(name, catalogue.summary(path)) for name, path in found.items()])


def query_command(query: Query) -> click.Command:
    """A query as a command: its parameters are options, its comment the help."""

    @common_options()
    def run_query(session: Session, **parameters: Any) -> None:
        scan = session.open()
        given = {name: value for name, value in parameters.items() if value is not None}
        session.write(session.query(scan, query.name, **given), scan)

    options = [_option(parameter) for parameter in query.parameters]
    columns = "\n".join(f"  {column.name}: {column.meaning}" for column in query.columns)
    help = f"{query.summary}\n\n{query.description}\n\n\b\nColumns:\n{columns}"
    shared = list(reversed(run_query.__click_params__))  # type: ignore[attr-defined]
    return click.Command(query.name, callback=run_query, params=options + shared, help=help, short_help=query.summary)


def _option(parameter: Parameter) -> click.Option:
    names = [*_SHORT.get(parameter.name, []), f"--{parameter.name.replace('_', '-')}", parameter.name]
    default = "" if parameter.default is None or parameter.optional else f"  [default: {parameter.default}]"
    required = "  [required]" if parameter.default is None else ""
    if parameter.type == "boolean":
        off = f"--{parameter.name.replace('_', '-')}/--no-{parameter.name.replace('_', '-')}"
        return click.Option([off, parameter.name], default=None, help=parameter.help + default)
    kind = click.Choice(parameter.choices) if parameter.choices else click.STRING
    metavar = None if parameter.choices else parameter.type.upper()
    return click.Option(names, type=kind, metavar=metavar, help=parameter.help + default + required)


def _folders_on_the_line() -> list[Path]:
    """Folders named by --queries anywhere on the command line: they decide which commands there are."""
    found = []
    words = sys.argv[1:]
    for index, word in enumerate(words):
        if word == "--queries" and index + 1 < len(words):
            found.append(Path(words[index + 1]))
        elif word.startswith("--queries="):
            found.append(Path(word.partition("=")[2]))
    return found


def _show_list(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    for name, (_, _, help) in ANALYSES.items():
        click.echo(f"{name}\t{help}")
    for query, path in catalogue.paths(_folders_on_the_line()).items():
        click.echo(f"{query}\t{catalogue.summary(path)}")
    context.exit(0)


@click.group("analyze", cls=QueryGroup, lazy=ANALYSES)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_list,
    help="List every analysis, one a line.",
)
@click.option("--queries", multiple=True, expose_value=False, metavar="DIR", help="A folder of your own .sql queries.")
def command() -> None:
    """Answer a question from one or more traces (default: ./trace)."""
