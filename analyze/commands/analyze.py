"""`netrec analyze NAME`: the queries of the catalogue and the analyses written in Python, as commands of one group."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from analyze import sandbox
from analyze.cli import ANALYSES
from netrec.cli import LazyGroup


class QueryGroup(LazyGroup):
    """The analyses of `ANALYSES` and every query file, parsed only when it is invoked."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [*super().list_commands(context), *_queries()]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        sandbox.begin()  # before the imports, which take as long
        if name in self.lazy:
            return super().get_command(context, name)
        from analyze import catalogue

        path = _queries().get(name)
        if path is None:
            return None
        from analyze.commands.query import query_command

        return query_command(catalogue.parse(path, name))

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        if self.lazy:
            with formatter.section("Analyses"):
                formatter.write_dl([(name, help) for name, (_, _, help) in self.lazy.items()])
        with formatter.section("Queries"):
            formatter.write_dl(_summaries())


def _queries() -> dict[str, Path]:
    from analyze import catalogue

    return catalogue.paths(_folders_on_the_line())


def _summaries() -> list[tuple[str, str]]:
    from analyze import catalogue

    return [(name, catalogue.summary(path)) for name, path in _queries().items()]


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
    for query, help in _summaries():
        click.echo(f"{query}\t{help}")
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
