"""The answer of an analysis that says more than one table: a sentence, what it rests on, and sections of rows.

`write` renders it in the format that was asked for: a page of text for the terminal, Markdown for a pull request,
one JSON document for a pipeline (`document`); the formats that hold rows only (ndjson, csv, parquet) get the
first section.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from analyze import context, render
from analyze.header import Chart
from analyze.result import Column
from netrec.errors import UsageError
from netrec.text import printable

if TYPE_CHECKING:
    from analyze.options import Session
    from analyze.render.figure import Figure
    from analyze.result import Result
    from analyze.scan import Scan


@dataclass(frozen=True)
class Drawing:
    """A figure of a section: `frame` None draws the section's own rows; `columns` give the units."""

    title: str
    chart: Chart
    frame: pl.DataFrame | None = None
    columns: Sequence[Column] = ()


@dataclass(frozen=True)
class Section:
    """A titled table. `columns` give the units; `empty` is the sentence that stands for no rows.

    `display`, when given, is what people are shown instead: fewer columns, values as text. `asked` is the SQL whose
    rows it rests on.
    """

    name: str
    title: str
    frame: pl.DataFrame
    columns: Sequence[Column] = ()
    empty: str = ""
    display: pl.DataFrame | None = None
    drawings: Sequence[Drawing] = ()
    asked: Sequence[str] = ()


@dataclass(frozen=True)
class Answer:
    """What a command found. `code` is the exit code; `document` the JSON object (sections are added to it)."""

    name: str
    sentence: str
    code: int
    notes: Sequence[str] = ()
    sections: Sequence[Section] = ()
    document: dict[str, Any] = field(default_factory=dict)
    subject: str = ""  # of what, where that is not the traces of the command line


def write(answer: Answer, session: Session, scan: Scan) -> int:
    """Write the answer to stdout or `-o FILE`, with what it rests on; returns its exit code."""
    caveats = context.caveats(context.of(scan), session.zone)
    answer = replace(answer, notes=[*answer.notes, *(one for one in caveats if one not in answer.notes)])
    if session.format in {"ndjson", "csv", "parquet"}:
        # Rows alone have no place for an answer without any: then there is the sentence.
        if answer.sections and answer.sections[0].frame.width:
            session.write(as_result(answer.sections[0], session, scan), scan)
        session.say(answer.sentence)
        return answer.code
    if session.format in render.DRAWINGS:
        _draw(answer, session, scan)
        return answer.code
    with render.opened(session.output, session.format) as stream:
        if session.format == "html":
            from analyze.report import page, parts

            stream.write(page.render(parts.of_answer(answer, session, scan, scan.asked)))
        elif session.format == "json":
            stream.write(json.dumps(as_document(answer), indent=1) + "\n")
        else:
            stream.write(as_text(answer, session, scan))
    return answer.code


def _draw(answer: Answer, session: Session, scan: Scan) -> None:
    """Every figure of the answer, under each other, as the drawing that was asked for."""
    session.say(answer.sentence)
    found = [entry for section in answer.sections for entry in figures(section, session, scan)]
    if not found or session.format not in render.TAKES_SEVERAL:
        raise UsageError(f"this {answer.name} has no such chart", "leave out --plot, or choose another --format")
    with render.opened(session.output, session.format) as stream:
        render.write_figures(found, session.format, stream)


def figures(section: Section, session: Session, scan: Scan) -> list[tuple[str, Figure]]:
    """The figures of a section with their titles; those in which there is nothing to draw are left out."""
    from analyze.render import figure

    found = []
    for drawing in section.drawings:
        rows = drawing.frame if drawing.frame is not None else section.frame
        if rows.is_empty():
            continue
        result = _result(rows, drawing.columns or section.columns, section.name, session, scan)
        drawn = figure.build(drawing.chart, result.columns, result.rows(), session.zone)
        if drawn.points:
            found.append((drawing.title, drawn))
    return found


def as_document(answer: Answer) -> dict[str, Any]:
    """The whole answer as plain data; times are ISO 8601, missing numbers null."""
    sections = {section.name: [_plain(row) for row in section.frame.to_dicts()] for section in answer.sections}
    return {
        "analysis": answer.name,
        "sentence": answer.sentence,
        "exit_code": answer.code,
        "notes": list(answer.notes),
        **_plain(answer.document),
        **sections,
    }


def as_text(answer: Answer, session: Session, scan: Scan) -> str:
    """The page for a terminal, or Markdown."""
    markdown = session.format == "markdown"
    stream = io.StringIO()
    stream.write(f"**{_markdown(answer.sentence)}**\n" if markdown else f"{printable(answer.sentence)}\n")
    for note in answer.notes:
        stream.write(f"\n- {_markdown(note)}\n" if markdown else f"  {printable(note)}\n")
    for section in answer.sections:
        title = _markdown(section.title) if markdown else printable(section.title)
        stream.write(f"\n### {title}\n\n" if markdown else f"\n{title}\n")
        if section.frame.is_empty():
            stream.write((section.empty or "none") + "\n")
            continue
        table = io.StringIO()
        render.write(as_result(section, session, scan, for_people=True), session.format, table, session.zone)
        # What a single table says of its rows and window, the answer has said for all of them.
        lines = table.getvalue().rstrip("\n").split("\n")
        stream.write("\n".join(lines[:-2] if markdown else lines[:-1]) + "\n")
    return stream.getvalue()


def as_result(section: Section, session: Session, scan: Scan, for_people: bool = False) -> Result:
    """A section's rows as a result to write."""
    shown = section.display if for_people and section.display is not None else section.frame
    return _result(shown, section.columns, section.name, session, scan)


def _result(frame: pl.DataFrame, columns: Sequence[Column], name: str, session: Session, scan: Scan) -> Result:
    known = frame.with_columns(pl.col(pl.Float64).fill_nan(None))
    return session.result(scan, known.to_arrow(), columns, name)


def _markdown(text: str) -> str:
    from analyze.render.markdown import _escape

    return _escape(printable(text))


def _plain(value: Any) -> Any:
    from datetime import datetime

    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
