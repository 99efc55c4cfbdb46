"""Results of queries, and answers of analyses, as parts of a page."""

from __future__ import annotations

import itertools
import shlex
import sys
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from analyze import context
from analyze.moments import iso
from analyze.render import figure, svg
from analyze.render.cells import cell
from analyze.report.page import MOST_ROWS, Cell, Page, Part, Table
from analyze.result import Column
from netrec.text import folder_names

if TYPE_CHECKING:
    from analyze.answer import Answer, Section
    from analyze.options import Session
    from analyze.result import Context, Result
    from analyze.scan import Scan

_STATES = {0: "fine", 1: "finding", 3: "open"}


def of_result(result: Result, zone: tzinfo | None, *, name: str = "", title: str = "", command: str = "") -> Part:
    """One query's answer: its chart, its table, its SQL."""
    return Part(
        name or result.name or "answer",
        title or result.summary or result.name or "Answer",
        drawing(result, zone),
        table(result, zone),
        "no rows",
        (),
        result.sql,
        command,
    )


def drawing(result: Result, zone: tzinfo | None) -> list[tuple[str, str]]:
    """The `<svg>` element of the declared chart, without a title of its own; none where there is nothing to draw."""
    if result.chart is None or result.chart.kind == "none":
        return []
    drawn = figure.of_result(result, zone)
    return [("", svg.element(drawn, result.summary or result.name))] if drawn.points else []


def table(result: Result, zone: tzinfo | None) -> Table:
    """The first rows with what they sort by."""
    columns = result.columns
    rows = [
        [_cell(value, column, zone) for value, column in zip(row, columns, strict=True)]
        for row in itertools.islice(result.rows(), MOST_ROWS)
    ]
    headings = [(column.name.replace("_", " "), column.meaning, column.is_number) for column in columns]
    return Table(headings, rows, max(0, len(result) - MOST_ROWS))


def _cell(value: Any, column: Column, zone: tzinfo | None) -> Cell:
    sort = ""
    if value is not None and column.is_time:
        sort = iso(value)
    elif isinstance(value, int | float) and column.is_number:
        sort = repr(float(value))
    return Cell(cell(value, column, zone), sort)


def of_answer(answer: Answer, session: Session, scan: Scan, sources: list[str]) -> Page:
    """The page of an analysis: its sentence, and a part for every section."""
    return Page(
        f"{answer.name.capitalize()} of {answer.subject or traces(session)}",
        answer.sentence,
        _STATES.get(answer.code, ""),
        (),
        [*answer.notes, *basis(context.of(scan), session.zone)],
        [_section(section, session, scan) for section in answer.sections],
        list(dict.fromkeys(sql for sql in sources if "from computed" not in sql)),
        command_line(),
    )


def _section(section: Section, session: Session, scan: Scan) -> Part:
    from analyze.answer import as_result, figures

    source = "\n\n".join(f"{sql.strip()};" for sql in dict.fromkeys(section.asked))
    drawn = [(title, svg.element(one, title)) for title, one in figures(section, session, scan)]
    if section.frame.is_empty():
        return Part(section.name, section.title, drawn, empty=section.empty or "none", source=source)
    shown = as_result(section, session, scan, for_people=True)
    return Part(section.name, section.title, drawn, table(shown, session.zone), source=source, command=command_line())


def basis(context_of: Context, zone: tzinfo | None) -> list[str]:
    """What all of a page rests on: window, losses, gaps and notes, without the number of a table's rows."""
    first, *rest = context.lines(context_of, zone, 0)
    return [" | ".join(part for part in first.split(" | ") if not part.endswith(" rows")), *rest]


def traces(session: Session) -> str:
    """The traces' names for a title: the folders' own, their paths are in the command."""
    return ", ".join(folder_names(session.traces)) or "trace"


def command_line() -> str:
    """The command that was given, as it can be given again."""
    return shlex.join(["netrec", *sys.argv[1:]])
