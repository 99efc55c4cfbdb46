"""A Markdown table (for a ticket or a pull request) with its notes under it."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import IO

from analyze import context
from analyze.render.cells import cell
from analyze.result import Result

# What Markdown or the HTML that it becomes would act on.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|&~#])")


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the table and the notes."""
    stream.write("| " + " | ".join(_escape(column.name) for column in result.columns) + " |\n")
    stream.write("|" + "|".join(" ---: " if column.is_number else " --- " for column in result.columns) + "|\n")
    count = 0
    for row in result.rows():
        cells = [_escape(cell(value, column, zone)) for value, column in zip(row, result.columns, strict=True)]
        stream.write("| " + " | ".join(cells) + " |\n")
        count += 1
    stream.write("\n")
    for note in context.lines(result.context, zone, count, result.most):
        stream.write(f"*{_escape(note)}*\n\n")


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
