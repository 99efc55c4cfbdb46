"""One query's answer as a self-contained HTML file: chart, table, and the SQL that made them."""

from __future__ import annotations

from datetime import tzinfo
from typing import IO

from analyze import context
from analyze.report import page, parts
from analyze.result import Result


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the page."""
    notes = context.lines(result.context, zone, len(result), result.most)
    part = parts.of_result(result, zone, title=result.name or "Answer", command=parts.command_line())
    stream.write(page.render(page.Page(result.summary or result.name or "Answer", notes=notes, parts=[part])))
