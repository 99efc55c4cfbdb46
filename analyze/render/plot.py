"""A figure in the terminal: bars, lines and sparklines of block characters, of ASCII where the encoding has no more."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from datetime import tzinfo
from typing import IO

from analyze import context
from analyze.render import plot_grid
from analyze.render.figure import Figure, Point, axis, of_result
from analyze.render.table import shorten, text_width
from analyze.result import Result
from netrec.text import printable

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = " ▁▂▃▄▅▆▇█"
_ASCII_LEVELS = " .:-=+*#@"
_HEIGHT = 8
_WIDTH_WITHOUT_TERMINAL = 100


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Draw the chart that the query declares, and the notes under it."""
    _write(of_result(result, zone), stream)
    for note in context.lines(result.context, zone, len(result), result.most):
        stream.write(note + "\n")


def write_figures(figures: Sequence[tuple[str, Figure]], stream: IO[str]) -> None:
    """Draw titled figures under each other."""
    for number, (title, figure) in enumerate(figures):
        stream.write(("\n" if number else "") + printable(title) + "\n")
        _write(figure, stream)


def _write(figure: Figure, stream: IO[str]) -> None:
    width = shutil.get_terminal_size((_WIDTH_WITHOUT_TERMINAL, 24)).columns
    for line in draw(figure, width if stream.isatty() else _WIDTH_WITHOUT_TERMINAL, unicode=_takes_blocks(stream)):
        stream.write(line + "\n")


def draw(figure: Figure, width: int, unicode: bool = True) -> list[str]:
    """The lines of the drawing, none wider than `width` (40 at least)."""
    width = max(40, width)
    if not figure.points:
        return ["nothing to draw: no row has a number"]
    drawers = {
        "bar": _bars, "interval": _intervals, "graph": _graph, "heatmap": _heatmap, "scatter": plot_grid.draw,
        "curve": plot_grid.draw, "band": plot_grid.draw, "span": _spans,
    }  # fmt: skip
    return [line.rstrip() for line in drawers.get(figure.kind, _lines)(figure, width, unicode)]


def _takes_blocks(stream: IO[str]) -> bool:
    try:
        _EIGHTHS.encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _labels(points: Sequence[Point], width: int) -> tuple[list[str], int]:
    widest = min(max(text_width(str(point.y)) for point in points), width // 2)
    shown = [shorten(str(point.y), widest) for point in points]
    return [text + " " * (widest - text_width(text)) for text in shown], widest


def _bars(figure: Figure, width: int, unicode: bool) -> list[str]:
    labels, widest = _labels(figure.points, width)
    values = [figure.show("x", point.x) for point in figure.points]
    longest = max(len(text) for text in values)
    room = max(4, width - widest - longest - 2)
    top = max(max(point.x for point in figure.points), 0)
    lines = []
    for label, text, point in zip(labels, values, figure.points, strict=True):
        eighths = round(max(point.x, 0) / top * room * 8) if top else 0
        if unicode:
            bar = _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
        else:
            bar = "#" * round(eighths / 8)
        lines.append(f"{label} {text:>{longest}} {bar}")
    return lines


def _lines(figure: Figure, width: int, unicode: bool) -> list[str]:
    low, high = min(point.x for point in figure.points), max(point.x for point in figure.points)
    top = max(max(point.y for point in figure.points), 0)
    if len(figure.names) == 1 and not figure.names[0]:
        margin = max(len(figure.show("y", top)), len(figure.show("y", 0)))
        columns = _columns(figure.points, low, high, width - margin - 2)
        body = [
            f"{(figure.show('y', top) if row == _HEIGHT - 1 else figure.show('y', 0) if row == 0 else ''):>{margin}} "
            + ("│" if unicode else "|")
            + "".join(_level(value, top, row, unicode) for value in columns)
            for row in reversed(range(_HEIGHT))
        ]
        return [*body, " " * (margin + 2) + axis(figure, low, high, len(columns))]
    # Several series: one sparkline each, all on one scale.
    widest = min(max(text_width(name) for name in figure.names), width // 3)
    peaks = [figure.show("y", max(point.y for point in figure.of(name))) for name in figure.names]
    longest = max(len(text) for text in peaks)
    room = width - widest - longest - 2
    lines = []
    for name, peak in zip(figure.names, peaks, strict=True):
        label = shorten(name, widest)
        columns = _columns(figure.of(name), low, high, room)
        drawn = "".join(_spark(value, top, unicode) for value in columns)
        lines.append(f"{label}{' ' * (widest - text_width(label))} {peak:>{longest}} {drawn}")
    return [*lines, " " * (widest + longest + 2) + axis(figure, low, high, room)]


def _columns(points: Sequence[Point], low: float, high: float, room: int) -> list[float | None]:
    """The highest value in every column of the terminal; a bin is as wide as the step between the points."""
    moments = sorted({point.x for point in points})
    steps = [after - before for before, after in itertools.pairwise(moments)]
    step = min(steps, default=0)
    span = (high - low + step) or 1
    columns: list[float | None] = [None] * room
    for point in points:
        first = min(room - 1, int((point.x - low) / span * room))
        last = min(room, max(first + 1, round((point.x - low + step) / span * room)))
        for place in range(first, last):
            value = columns[place]
            columns[place] = point.y if value is None else max(value, point.y)
    return columns


def _level(value: float | None, top: float, row: int, unicode: bool) -> str:
    if value is None or not top:
        return " "
    eighths = round(value / top * _HEIGHT * 8) - row * 8
    if value > 0 and row == 0:
        eighths = max(eighths, 1)
    eighths = min(8, max(0, eighths))
    return _LEVELS[eighths] if unicode else ("#" if eighths >= 4 else "." if eighths else " ")


def _spark(value: float | None, top: float, unicode: bool) -> str:
    if value is None or not top or value <= 0:
        return " "
    return (_LEVELS if unicode else _ASCII_LEVELS)[max(1, min(8, round(value / top * 8)))]


def _intervals(figure: Figure, width: int, unicode: bool) -> list[str]:
    labels, widest = _labels(figure.points, width)
    ends = [end for point in figure.points for end in (point.x, point.low, point.high, 0.0) if end is not None]
    low, high = min(ends), max(ends)
    values = [
        f"{figure.show('x', point.x)} ({figure.show('low', point.low)} to {figure.show('high', point.high)})"
        for point in figure.points
    ]
    room = max(10, width - widest - max(len(text) for text in values) - 2)
    bar, dot, zero = ("─", "●", "│") if unicode else ("-", "o", "|")

    def place(value: float) -> int:
        return round((value - low) / ((high - low) or 1) * (room - 1))

    lines = []
    for label, text, point in zip(labels, values, figure.points, strict=True):
        cells = [" "] * room
        cells[place(0.0)] = zero
        if point.low is not None and point.high is not None:
            for column in range(place(point.low), place(point.high) + 1):
                cells[column] = bar
        cells[place(point.x)] = dot
        lines.append(f"{label} {''.join(cells)} {text}")
    return lines


def _spans(figure: Figure, width: int, unicode: bool) -> list[str]:
    labels, widest = _labels(figure.points, width)
    known = [end for point in figure.points for end in (point.x, point.end) if end is not None]
    low, high = min(known), max(known)
    room = max(10, width - widest - 2)
    bar, still = ("█", "▶") if unicode else ("#", ">")

    def place(value: float) -> int:
        return round((value - low) / ((high - low) or 1) * (room - 1))

    lines = []
    for label, point in zip(labels, figure.points, strict=True):
        last = room - 1 if point.end is None else place(point.end)
        drawn = " " * place(point.x) + bar * max(1, last - place(point.x) + (point.end is not None))
        lines.append(f"{label} {drawn}{still if point.end is None else ''}")
    return [*lines, " " * (widest + 1) + axis(figure, low, high, room)]


def _graph(figure: Figure, width: int, unicode: bool) -> list[str]:
    arrow = "─▶" if unicode else "->"
    sources: dict[str, list[Point]] = {}
    for point in figure.points:
        sources.setdefault(str(point.x), []).append(point)
    lines = []
    for source, points in sources.items():
        lines.append(shorten(source, width))
        for point in points:
            port = f":{point.label}" if point.label else ""
            size = f"  {figure.show('size', point.value)}" if point.value is not None else ""
            lines.append(shorten(f"  {arrow} {point.y}{port}{size}", width))
    return lines


def _heatmap(figure: Figure, width: int, unicode: bool) -> list[str]:
    rows = list(dict.fromkeys(str(point.y) for point in figure.points))
    low, high = min(point.x for point in figure.points), max(point.x for point in figure.points)
    top = max(point.value or 0 for point in figure.points)
    widest = min(max(text_width(row) for row in rows), width // 3)
    shades = " ░▒▓█" if unicode else " .+*#"
    lines = []
    for row in rows:
        points = [Point(point.x, point.value or 0) for point in figure.points if point.y == row]
        columns = _columns(points, low, high, width - widest - 1)
        label = shorten(row, widest)
        drawn = "".join(shades[min(4, int(-(-(value or 0) * 4 // (top or 1))))] for value in columns)
        lines.append(f"{label}{' ' * (widest - text_width(label))} {drawn}")
    return [*lines, " " * (widest + 1) + axis(figure, low, high, width - widest - 1)]
