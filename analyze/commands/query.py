"""A query of the catalogue as a command of `netrec analyze`."""

from __future__ import annotations

from typing import Any

import click

from analyze import run, shared
from analyze.header import Parameter, Query
from analyze.options import Session, common_options

_SHORT = {"n": ["-n"]}


def query_command(query: Query) -> click.Command:
    """A query as a command: its parameters are options, its comment the help."""

    @common_options()
    def run_query(session: Session, **parameters: Any) -> None:
        scan = session.open()
        given = {name: value for name, value in parameters.items() if value is not None}
        session.write(run.run(query, scan, given, shared.dimensions(session.query_folders)), scan)

    options = [_option(parameter) for parameter in query.parameters]
    columns = "\n".join(f"  {column.name}: {column.meaning}" for column in query.columns)
    help = f"{query.summary}\n\n{query.description}\n\n\b\nColumns:\n{columns}"
    common = list(reversed(run_query.__click_params__))  # type: ignore[attr-defined]
    return click.Command(query.name, callback=run_query, params=options + common, help=help, short_help=query.summary)


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
