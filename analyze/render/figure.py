"""A result's declared chart as a figure: its axes and points as text and numbers, for those that draw it.

bar       x=NUMBER y=LABEL                        one bar a row, in the order of the rows
line      x=TIME|NUMBER y=NUMBER [series=NAME]    area: the same, stacked
scatter   x=NUMBER y=NUMBER [label=NAME]
heatmap   x=TIME|NUMBER y=LABEL value=NUMBER
graph     x=FROM y=TO [label=NAME] [size=NUMBER]  an edge a row
curve     x=NUMBER y=NUMBER [series=NAME]         a line over a logarithmic axis (a distribution)
interval  x=NUMBER y=LABEL low=NUMBER high=NUMBER [limit=NUMBER]
          a point with its interval (a forest plot); behind it what does not matter: from -limit to limit
band      x=TIME|NUMBER y=NUMBER low=NUMBER high=NUMBER [limit=NUMBER] [series=NAME]
          a line with its interval (a fan chart)
span      x=TIME y=LABEL [end=TIME] [low=TIME] [high=TIME] [label=NAME]
          a bar from x to end (none: to the last moment of the drawing), and how sure its beginning is (a timeline)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from analyze.moments import show
from analyze.render.cells import cell
from analyze.result import Column
from netrec.errors import UsageError
from netrec.text import printable

if TYPE_CHECKING:
    from analyze.header import Chart
    from analyze.result import Result

MOST_POINTS = 20_000
DAY_US = 86_400_000_000
_NO_COLUMN = Column("", "VARCHAR")


@dataclass(frozen=True)
class Point:
    """One row: `x` and `y` are numbers or a label; the others are set where the chart names them."""

    x: Any
    y: Any
    series: str = ""
    label: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Figure:
    """What to draw. `columns` are those of the axes, for the units of what is shown."""

    kind: str
    columns: dict[str, Column]
    points: list[Point]
    zone: tzinfo | None = None
    left_out: int = 0
    names: list[str] = field(default_factory=list)

    def show(self, axis: str, value: Any) -> str:
        """A value of an axis as text for people, in its unit."""
        return cell(value, self.columns.get(axis, _NO_COLUMN), self.zone)

    def of(self, series: str) -> list[Point]:
        """The points of one series, in order."""
        return [point for point in self.points if point.series == series]


def of_result(result: Result, zone: tzinfo | None) -> Figure:
    """The figure of a query's result; raises `UsageError` when it declares none."""
    if result.chart is None or result.chart.kind == "none":
        raise UsageError(f"{result.name or 'this'} has no chart", "leave out --plot, or choose another --format")
    return build(result.chart, result.columns, result.rows(), zone)


def build(chart: Chart, columns: Sequence[Column], rows: Iterable[Sequence[Any]], zone: tzinfo | None = None) -> Figure:
    """The figure of rows; those without a number to draw are left out and counted."""
    place = {column.name: index for index, column in enumerate(columns)}
    axes = {axis: place[name] for axis, name in chart.axes.items() if name in place}
    used = {axis: columns[index] for axis, index in axes.items()}
    points: list[Point] = []
    left_out = 0
    for row in rows:
        point = _point(chart.kind, axes, used, row, zone)
        if point is None or len(points) >= MOST_POINTS:
            left_out += 1
        else:
            points.append(point)
    return Figure(chart.kind, used, points, zone, left_out, list(dict.fromkeys(point.series for point in points)))


def _point(
    kind: str, axes: dict[str, int], used: dict[str, Column], row: Sequence[Any], zone: tzinfo | None
) -> Point | None:
    numbers = {
        "bar": ("x",), "interval": ("x",), "span": ("x",), "heatmap": ("x", "value"), "graph": (),
    }.get(kind, ("x", "y"))  # fmt: skip
    found: dict[str, Any] = {}
    for axis, index in axes.items():
        value = row[index]
        if axis in {"x", "y", "value", "size", "low", "high", "limit", "end"} and _is_number(value, used[axis]):
            found[axis] = value
        elif axis in numbers:
            return None
        elif axis in {"x", "y", "series", "label"}:
            found[axis] = cell(value, used[axis], zone)
    if "x" not in found or "y" not in found or (kind == "curve" and found["x"] <= 0):
        return None
    if kind in {"bar", "interval", "span", "heatmap", "graph"}:
        found["y"] = cell(row[axes["y"]], used["y"], zone)
    if kind == "graph":
        found["x"] = cell(row[axes["x"]], used["x"], zone)
    return Point(
        found["x"],
        found["y"],
        printable(str(found.get("series", ""))),
        str(found.get("label", "")),
        found.get("value", found.get("size")),
        found.get("low"),
        found.get("high"),
        found.get("limit"),
        found.get("end"),
    )


def _is_number(value: Any, column: Column) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (column.is_number or column.is_time)
        and math.isfinite(value)
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that span [low, high], at most about `most` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, most - 1)
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(magnitude * each for each in (1, 2, 2.5, 5, 10) if magnitude * each >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [count * step for count in range(first, math.floor(high / step + 1e-9) + 1)]


def axis(figure: Figure, low: float, high: float, room: int) -> str:
    """The line under a drawing in the terminal: both ends of x, as wide as the drawing."""
    left, right = figure.show("x", low), figure.show("x", high)
    if figure.columns["x"].is_time and left[:10] == right[:10]:
        right = show(int(high), figure.zone)[11:]
    return left + right.rjust(room - len(left)) if len(left) + len(right) < room else left


def time_label(moment: float, low: float, high: float, zone: tzinfo | None) -> str:
    """A moment on an axis from `low` to `high`: its date, its time, or both, whatever tells it apart."""
    text = show(int(moment), zone)
    if high - low > 14 * DAY_US:
        return text[:10]
    return text[5:16] if high - low > 2 * DAY_US else text[11:19]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high], or the powers alone when those are enough."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    inside = [value for value in found if low * 0.999 <= value <= high * 1.001]
    tens = [value for value in inside if math.isclose(math.log10(value) % 1, 0, abs_tol=1e-6)]
    chosen = inside if len(inside) <= most or len(tens) < 2 else tens
    return chosen[:: -(-len(chosen) // most)] if chosen else [low]


_TIME_STEPS = [
    each * 1_000_000
    for each in (
        1,
        2,
        5,
        10,
        15,
        30,
        60,
        120,
        300,
        600,
        900,
        1800,
        3600,
        7200,
        10800,
        21600,
        43200,
        86400,
        172800,
        604800,
        14 * 86400,
        28 * 86400,
        91 * 86400,
        364 * 86400,
    )
]


def time_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round moments (microseconds since 1970, UTC) that span [low, high]."""
    if not high > low:
        return [low]
    step = next((each for each in _TIME_STEPS if (high - low) / each <= most), 0)
    if not step:
        return ticks(low, high, most)
    return [float(count * step) for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
