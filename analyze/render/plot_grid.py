"""Two axes in the terminal: points, the curves of two distributions, and a line with its interval."""

from __future__ import annotations

import math

from analyze.render.figure import Figure, axis

_HEIGHT = 16
_MARKS, _ASCII_MARKS = "●○◆◇", "*o+x"


def draw(figure: Figure, width: int, unicode: bool) -> list[str]:
    """The lines of a scatter, curve or band figure: a sign a series, named under it when there are several."""
    log = figure.kind == "curve"
    xs = [math.log(point.x) if log else point.x for point in figure.points]
    ys = [
        value for point in figure.points for value in (point.y, point.low, point.high, point.limit) if value is not None
    ]
    low, high, bottom, top = min(xs), max(xs), min(ys), max(ys)
    labels = figure.show("y", top), figure.show("y", bottom)
    margin = max(len(label) for label in labels)
    room = width - margin - 2
    grid = [[" "] * room for _ in range(_HEIGHT)]

    def row(value: float) -> int:
        return round((value - bottom) / ((top - bottom) or 1) * (_HEIGHT - 1))

    marks = _MARKS if unicode else _ASCII_MARKS
    signs = {name: marks[number % len(marks)] for number, name in enumerate(figure.names)}
    columns = [round((x - low) / ((high - low) or 1) * (room - 1)) for x in xs]
    for point, column in zip(figure.points, columns, strict=True):
        if point.low is not None and point.high is not None:
            for place in range(row(point.low), row(point.high) + 1):
                grid[place][column] = "░" if unicode else ":"
    for limit in {point.limit for point in figure.points if point.limit is not None}:
        grid[row(limit)] = [("╌" if unicode else "-") if cell == " " else cell for cell in grid[row(limit)]]
    for point, column in zip(figure.points, columns, strict=True):
        grid[row(point.y)][column] = signs[point.series]
    bar = "│" if unicode else "|"
    beside = [labels[1], *[""] * (_HEIGHT - 2), labels[0]]
    lines = [f"{beside[place]:>{margin}} {bar}{''.join(grid[place])}" for place in reversed(range(_HEIGHT))]
    ends = (min(point.x for point in figure.points), max(point.x for point in figure.points))
    lines.append(" " * (margin + 2) + axis(figure, *ends, room))
    if len(figure.names) > 1:
        lines.append(" " * (margin + 2) + "   ".join(f"{sign} {name}" for name, sign in signs.items()))
    return lines
