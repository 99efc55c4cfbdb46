"""The table for a terminal, and the same without colour or cut-off columns in a pipe."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import IO, Any

from analyze import context
from analyze.render.cells import EMPTY, cell
from analyze.result import Column, Result
from netrec.text import printable

_GAP = "  "
_BOLD, _FAINT, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_NARROWEST = 8
_MOST_COLUMNS_OF_ONE_ROW = 8


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the table and the notes under it; on a terminal it fits the width by shortening text columns."""
    count = write_rows(result.columns, result.rows(), stream, zone, colour)
    for note in context.lines(result.context, zone, count, result.most):
        stream.write(f"{_FAINT}{note}{_PLAIN}\n" if colour else f"{note}\n")


def write_rows(
    columns: Sequence[Column], values: Iterable[Sequence[Any]], stream: IO[str], zone: tzinfo | None, colour: bool
) -> int:
    """Write a heading and the rows (a single row of many columns: one line a column); returns how many there were."""
    rows = [[cell(value, column, zone) for value, column in zip(row, columns, strict=True)] for row in values]
    for index, column in enumerate(columns):
        if column.is_time:
            align_times(rows, index)
    if len(rows) == 1 and len(columns) > _MOST_COLUMNS_OF_ONE_ROW:
        longest = max(len(column.name) for column in columns)
        for column, text in zip(columns, rows[0], strict=True):
            stream.write(f"{column.name:<{longest}}{_GAP}{text}\n")
        return 1
    widths = [
        max([text_width(column.name), *(text_width(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    if stream.isatty():
        widths = _fit(widths, columns, shutil.get_terminal_size().columns)
    heading = _line([printable(column.name) for column in columns], widths, columns)
    stream.write(f"{_BOLD}{heading}{_PLAIN}\n" if colour else f"{heading}\n")
    for row in rows:
        stream.write(_line(row, widths, columns) + "\n")
    return len(rows)


def _line(cells: list[str], widths: list[int], columns: Sequence[Column]) -> str:
    parts = []
    for text, width, column in zip(cells, widths, columns, strict=True):
        shown = shorten(text, width)
        padding = " " * (width - text_width(shown))
        parts.append(padding + shown if column.is_number else shown + padding)
    return _GAP.join(parts).rstrip()


def _fit(widths: list[int], columns: Sequence[Column], available: int) -> list[int]:
    """Take what is too much from the widest text columns."""
    widths = list(widths)
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - available
    while excess > 0:
        texts = [index for index, column in enumerate(columns) if not column.is_number and widths[index] > _NARROWEST]
        if not texts:
            break
        widest = max(texts, key=lambda index: widths[index])
        widths[widest] -= 1
        excess -= 1
    return widths


def align_times(rows: list[list[str]], index: int) -> None:
    """Give the times of a column the same digits after the second: none, three or six."""
    fractions = [len(row[index].partition(".")[2]) for row in rows]
    digits = 0 if not any(fractions) else 3 if max(fractions) <= 3 else 6
    for row in rows if digits else ():
        whole, _, fraction = row[index].partition(".")
        if row[index] != EMPTY:
            row[index] = f"{whole}.{fraction:<0{digits}}"


def shorten(text: str, width: int) -> str:
    """The text cut to a width, with an ellipsis."""
    if text_width(text) <= width:
        return text
    shown, used = "", 1
    for character in text:
        used += text_width(character)
        if used > width:
            break
        shown += character
    return shown + "…"


def text_width(text: str) -> int:
    """Columns that a text takes on a terminal: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )
