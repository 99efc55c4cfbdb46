"""A figure as SVG: no script, readable on light and dark ground, every value shown on hover."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import tzinfo
from typing import IO

from analyze.render import svg_graph, svg_rows
from analyze.render.figure import Figure, Point, log_ticks, of_result, ticks, time_label, time_ticks
from analyze.render.svg_parts import CHARACTER, SERIES, WIDTH, escape, text
from analyze.render.table import shorten
from analyze.result import Result

_LINE_HEIGHT = 240
LIGHT = (
    ".ink{fill:#1f2430}.soft{fill:#5c6473}.grid{stroke:#d9dde5}.zero{stroke:#8b93a3}.limit{stroke:#c8453b}"
    ".ground{fill:#fff}.node{fill:#eef3fd;stroke:#2f6fde}.calm{fill:#e9edf3}"
)
DARK = (
    ".ink{fill:#e7eaf0}.soft{fill:#a3acbb}.grid{stroke:#333b48}.zero{stroke:#7d8798}.limit{stroke:#ff8a80}"
    ".ground{fill:#14181f}.node{fill:#1d2a44;stroke:#6b9bf5}.calm{fill:#222a36}"
)
STYLE = (
    "svg.chart text{font:12px system-ui,sans-serif}"
    + "".join(
        f".s{number}{{fill:{colour};color:{colour}}}.l{number}{{stroke:{colour}}}"
        for number, colour in enumerate(SERIES)
    )
    + "svg.chart .line{fill:none;stroke-linejoin:round}svg.chart polyline.line,svg.chart line.line{stroke-width:2px}"
    ".hit{fill:transparent}.hit:hover{fill:#8884}" + ".mark:hover{filter:brightness(1.2)}.title{font-weight:600}"
)


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the chart that the query declares, as a file of its own."""
    write_figures([(result.summary or result.name, of_result(result, zone))], stream)


def write_figures(figures: Sequence[tuple[str, Figure]], stream: IO[str]) -> None:
    """Write titled figures as one file."""
    stream.write(document(figures, f"{STYLE}{LIGHT}@media(prefers-color-scheme:dark){{{DARK}}}"))


def document(figures: Sequence[tuple[str, Figure]], style: str) -> str:
    """A whole SVG file: the figures under each other, each below its title, and their ground behind them."""
    parts, top = [], 0
    for title, figure in figures:
        body, height = inside(figure)
        parts.append(text(8, top + 20, title, "ink title"))
        parts.append(f'<g transform="translate(0 {top + 30})">{body}</g>')
        top += 30 + height + 14
    height = max(top - 14, 1)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" class="chart" '
        f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
        f"<title>{escape(', '.join(title for title, _ in figures))}</title><style>{style}</style>"
        f'<rect class="ground" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def element(figure: Figure, title: str) -> str:
    """The `<svg>` element for a page that has `STYLE` and one of the grounds in its style sheet."""
    body, height = inside(figure)
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'


def inside(figure: Figure) -> tuple[str, int]:
    """The drawing's elements and its height."""
    if not figure.points:
        return '<text class="soft" x="8" y="20">nothing to draw: no row has a number</text>', 32
    drawers = {
        "bar": svg_rows.bars,
        "interval": svg_rows.intervals,
        "span": svg_rows.spans,
        "graph": svg_graph.draw,
        "heatmap": svg_rows.heatmap,
        "area": _area,
    }
    return drawers.get(figure.kind, _lines)(figure)


class Frame:
    """Axes of a drawing over a number or time: places of values, and the grid with its labels."""

    def __init__(self, figure: Figure, bottom: float, top: float) -> None:
        xs = [point.x for point in figure.points]
        self.figure, self.bottom, self.top = figure, bottom, top if top > bottom else bottom + 1
        self.log = figure.kind == "curve"
        self.low, self.high = min(xs), max(xs)
        self.steps = ticks(self.bottom, self.top, 5)
        shown = [figure.show("y", step) for step in self.steps]
        self.left = max(len(label) for label in shown) * CHARACTER + 14
        self.labels = shown

    def x(self, value: float) -> float:
        """Place of a value from the left; a single moment is in the middle."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        part = ((math.log(value) if self.log else value) - low) / (high - low) if high > low else 0.5
        return self.left + part * (WIDTH - self.left - 40)

    def y(self, value: float) -> float:
        """Place of a value from the top."""
        return 10 + (1 - (value - self.bottom) / (self.top - self.bottom)) * (_LINE_HEIGHT - 40)

    def grid(self) -> str:
        """Lines and labels."""
        parts = []
        for step, label in zip(self.steps, self.labels, strict=True):
            y = self.y(step)
            parts.append(f'<line class="grid" x1="{self.left:.1f}" x2="{WIDTH - 40}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(text(self.left - 6, y + 4, label, "soft", "end"))
        is_time = "x" in self.figure.columns and self.figure.columns["x"].is_time
        steps = time_ticks if is_time else log_ticks if self.log else ticks
        for step in steps(self.low, self.high, 6):
            label = self.figure.show("x", step)
            if is_time:
                label = time_label(step, self.low, self.high, self.figure.zone)
            parts.append(text(self.x(step), _LINE_HEIGHT - 10, label, "soft", "middle"))
        return "".join(parts)

    def hits(self, points: Sequence[Point]) -> str:
        """A strip over every place of x, whose title tells the values there."""
        by_x: dict[float, list[Point]] = {}
        for point in points:
            by_x.setdefault(point.x, []).append(point)
        places = [self.x(x) for x in sorted(by_x)]
        edges = [(before + after) / 2 for before, after in itertools.pairwise(places)]
        starts, stops = [self.left, *edges], [*edges, WIDTH - 40.0]
        parts = []
        for (x, there), start, stop in zip(sorted(by_x.items()), starts, stops, strict=True):
            lines = [self.figure.show("x", x)]
            for point in there:
                name = f"{point.series}: " if point.series else ""
                band = (
                    f" ({self.figure.show('low', point.low)} to {self.figure.show('high', point.high)})"
                    if point.low is not None and point.high is not None
                    else ""
                )
                lines.append(f"{name}{self.figure.show('y', point.y)}{band}")
            parts.append(
                f'<rect class="hit" x="{start:.1f}" y="10" width="{stop - start:.1f}" '
                f'height="{_LINE_HEIGHT - 40}"><title>{escape(chr(10).join(lines))}</title></rect>'
            )
        return "".join(parts)


def _legend(names: Sequence[str], top: float) -> tuple[str, int]:
    if len(names) < 2 and not (names and names[0]):
        return "", 0
    parts, x, y = [], 8.0, top
    for number, name in enumerate(names):
        label = shorten(name, 34)
        width = len(label) * CHARACTER + 30
        if x + width > WIDTH:
            x, y = 8.0, y + 20
        parts.append(f'<rect class="s{number % len(SERIES)}" x="{x:.1f}" y="{y:.1f}" width="11" height="11" rx="2"/>')
        parts.append(text(x + 16, y + 10, label))
        x += width
    return "".join(parts), int(y - top) + 22


def _lines(figure: Figure) -> tuple[str, int]:
    values = [
        value for point in figure.points for value in (point.y, point.low, point.high, point.limit) if value is not None
    ]
    frame = Frame(figure, min(0.0, *values), max(values))
    parts = [frame.grid()]
    for number, name in enumerate(figure.names):
        points, colour = figure.of(name), number % len(SERIES)
        if figure.kind == "scatter":
            for point in points:
                told = f"{point.label} {figure.show('x', point.x)}, {figure.show('y', point.y)}"
                parts.append(
                    f'<circle class="s{colour} mark" cx="{frame.x(point.x):.1f}" cy="{frame.y(point.y):.1f}" r="3.5">'
                    f"<title>{escape(told)}</title></circle>"
                )
            continue
        if all(point.low is not None and point.high is not None for point in points):
            edge = [(point.x, point.high) for point in points] + [(point.x, point.low) for point in reversed(points)]
            parts.append(f'<polygon class="s{colour}" opacity=".3" points="{_path(frame, edge)}"/>')
        parts.append(f'<polyline class="line l{colour}" points="{_path(frame, [(p.x, p.y) for p in points])}"/>')
        if len(points) == 1:
            parts.append(
                f'<circle class="s{colour}" cx="{frame.x(points[0].x):.1f}" cy="{frame.y(points[0].y):.1f}" r="3"/>'
            )
    limits = [point.limit for point in figure.points if point.limit is not None]
    if limits:
        y = frame.y(limits[0])
        parts.append(
            f'<line class="limit" stroke-dasharray="6 4" x1="{frame.left:.1f}" x2="{WIDTH - 40}" '
            f'y1="{y:.1f}" y2="{y:.1f}">'
            f"<title>{escape('limit ' + figure.show('limit', limits[0]))}</title></line>"
        )
    if figure.kind != "scatter":
        parts.append(frame.hits(figure.points))
    legend, more = _legend(figure.names, _LINE_HEIGHT)
    return "".join(parts) + legend, _LINE_HEIGHT + more


def _area(figure: Figure) -> tuple[str, int]:
    moments = sorted({point.x for point in figure.points})
    values = {name: {point.x: point.y for point in figure.of(name)} for name in figure.names}
    base = dict.fromkeys(moments, 0.0)
    bands = []
    for name in figure.names:
        above = {moment: base[moment] + max(values[name].get(moment, 0.0), 0.0) for moment in moments}
        edge = [(x, above[x]) for x in moments] + [(x, base[x]) for x in reversed(moments)]
        bands.append(edge)
        base = above
    frame = Frame(figure, 0.0, max(base.values()))
    parts = [frame.grid()]
    for number, edge in enumerate(bands):
        parts.append(f'<polygon class="s{number % len(SERIES)}" opacity=".85" points="{_path(frame, edge)}"/>')
    legend, more = _legend(figure.names, _LINE_HEIGHT)
    return "".join(parts) + frame.hits(figure.points) + legend, _LINE_HEIGHT + more


def _path(frame: Frame, points: Sequence[tuple[float, float | None]]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points if y is not None)
