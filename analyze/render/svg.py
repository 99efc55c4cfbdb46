"""A figure as SVG: no script, readable on light and dark ground, every value shown on hover."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import tzinfo
from typing import IO

from analyze.moments import show
from analyze.render import svg_graph
from analyze.render.figure import Figure, Point, of_result, ticks, time_ticks
from analyze.render.table import shorten
from analyze.result import Result

WIDTH = 760
MOST_BARS = 40
_LINE_HEIGHT = 240
_CHARACTER = 6.7  # mean width of a character of the labels, in units of the drawing
_SERIES = ("#2f6fde", "#e08a00", "#1a9d6c", "#b5489b", "#7a6ff0", "#c8453b", "#5f8a1d", "#0f93b5")
LIGHT = (
    ".ink{fill:#1f2430}.soft{fill:#5c6473}.grid{stroke:#d9dde5}.zero{stroke:#8b93a3}.limit{stroke:#c8453b}"
    ".ground{fill:#fff}.node{fill:#eef3fd;stroke:#2f6fde}"
)
DARK = (
    ".ink{fill:#e7eaf0}.soft{fill:#a3acbb}.grid{stroke:#333b48}.zero{stroke:#7d8798}.limit{stroke:#ff8a80}"
    ".ground{fill:#14181f}.node{fill:#1d2a44;stroke:#6b9bf5}"
)
STYLE = (
    "svg.chart text{font:12px system-ui,sans-serif}"
    + "".join(
        f".s{number}{{fill:{colour};color:{colour}}}.l{number}{{stroke:{colour}}}"
        for number, colour in enumerate(_SERIES)
    )
    + "svg.chart .line{fill:none;stroke-linejoin:round}svg.chart polyline.line,svg.chart line.line{stroke-width:2px}"
    ".hit{fill:transparent}.hit:hover{fill:#8884}" + ".mark:hover{filter:brightness(1.2)}"
)


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the chart that the query declares, as a file of its own."""
    style = f"{STYLE}{LIGHT}@media(prefers-color-scheme:dark){{{DARK}}}"
    stream.write(document(of_result(result, zone), result.summary or result.name, style))


def document(figure: Figure, title: str, style: str) -> str:
    """A whole SVG file, with its title above the drawing and its ground behind it."""
    body, height = inside(figure)
    top = 30
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" class="chart" '
        f'viewBox="0 0 {WIDTH} {height + top}" width="{WIDTH}" height="{height + top}" role="img">'
        f'<title>{escape(title)}</title><style>{style}</style><rect class="ground" width="100%" height="100%"/>'
        f'<text class="ink" x="8" y="20" font-weight="600">{escape(title)}</text>'
        f'<g transform="translate(0 {top})">{body}</g></svg>\n'
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
        "bar": _bars,
        "interval": _intervals,
        "graph": svg_graph.draw,
        "heatmap": _heatmap,
        "area": _area,
    }
    return drawers.get(figure.kind, _lines)(figure)


def escape(text: object) -> str:
    """A text for SVG and HTML, also inside quoted attributes."""
    return html.escape(str(text), quote=True)


def text(x: float, y: float, content: str, kind: str = "soft", anchor: str = "start") -> str:
    """A label."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _label_width(labels: Sequence[str]) -> tuple[int, float]:
    characters = min(max(len(label) for label in labels), 34)
    return characters, characters * _CHARACTER + 12


def _bars(figure: Figure) -> tuple[str, int]:
    points = figure.points[:MOST_BARS]
    characters, left = _label_width([str(point.y) for point in points])
    values = [figure.show("x", point.x) for point in points]
    right = max(len(value) for value in values) * _CHARACTER + 12
    top = max(max(point.x for point in points), 0) or 1
    parts = []
    for number, (point, value) in enumerate(zip(points, values, strict=True)):
        y, length = number * 24, max(point.x, 0) / top * (WIDTH - left - right)
        parts.append(
            f'<g class="mark"><title>{escape(f"{point.y}: {value}")}</title>'
            f"{text(left - 8, y + 17, shorten(str(point.y), characters), 'ink', 'end')}"
            f'<rect class="s0" x="{left:.1f}" y="{y + 4}" width="{max(length, 1):.1f}" height="17" rx="2"/>'
            f"{text(left + length + 6, y + 17, value)}</g>"
        )
    height = len(points) * 24 + 4
    if len(figure.points) > MOST_BARS:
        parts.append(text(left, height + 14, f"and {len(figure.points) - MOST_BARS} more in the table"))
        height += 22
    return "".join(parts), height


class Frame:
    """Axes of a drawing over a number or time: places of values, and the grid with its labels."""

    def __init__(self, figure: Figure, bottom: float, top: float) -> None:
        xs = [point.x for point in figure.points]
        self.figure, self.bottom, self.top = figure, bottom, top if top > bottom else bottom + 1
        self.low, self.high = min(xs), max(xs)
        self.steps = ticks(self.bottom, self.top, 5)
        shown = [figure.show("y", step) for step in self.steps]
        self.left = max(len(label) for label in shown) * _CHARACTER + 14
        self.labels = shown

    def x(self, value: float) -> float:
        """Place of a value from the left; a single moment is in the middle."""
        span = self.high - self.low
        part = (value - self.low) / span if span else 0.5
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
        for step in (time_ticks if is_time else ticks)(self.low, self.high, 6):
            label = self.figure.show("x", step)
            if is_time:
                whole_days = self.high - self.low > 2 * 86_400_000_000
                label = show(int(step), self.figure.zone)
                label = label[5:16] if whole_days else label[11:]
            parts.append(text(self.x(step), _LINE_HEIGHT - 10, label, "soft", "middle"))
        return "".join(parts)

    def hits(self, points: Sequence[Point]) -> str:
        """A strip over every place of x, whose title tells the values there."""
        by_x: dict[float, list[Point]] = {}
        for point in points:
            by_x.setdefault(point.x, []).append(point)
        width = (WIDTH - self.left - 40) / max(1, len(by_x) - 1)
        parts = []
        for x, there in sorted(by_x.items()):
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
                f'<rect class="hit" x="{self.x(x) - width / 2:.1f}" y="10" width="{width:.1f}" '
                f'height="{_LINE_HEIGHT - 40}"><title>{escape(chr(10).join(lines))}</title></rect>'
            )
        return "".join(parts)


def _legend(names: Sequence[str], top: float) -> tuple[str, int]:
    if len(names) < 2 and not (names and names[0]):
        return "", 0
    parts, x, y = [], 8.0, top
    for number, name in enumerate(names):
        label = shorten(name, 34)
        width = len(label) * _CHARACTER + 30
        if x + width > WIDTH:
            x, y = 8.0, y + 20
        parts.append(f'<rect class="s{number % len(_SERIES)}" x="{x:.1f}" y="{y:.1f}" width="11" height="11" rx="2"/>')
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
        points, colour = figure.of(name), number % len(_SERIES)
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
            parts.append(f'<polygon class="s{colour}" opacity=".2" points="{_path(frame, edge)}"/>')
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
        parts.append(f'<polygon class="s{number % len(_SERIES)}" opacity=".85" points="{_path(frame, edge)}"/>')
    legend, more = _legend(figure.names, _LINE_HEIGHT)
    return "".join(parts) + frame.hits(figure.points) + legend, _LINE_HEIGHT + more


def _path(frame: Frame, points: Sequence[tuple[float, float | None]]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points if y is not None)


def _intervals(figure: Figure) -> tuple[str, int]:
    points = figure.points[:MOST_BARS]
    characters, left = _label_width([str(point.y) for point in points])
    ends = [end for point in points for end in (point.x, point.low, point.high, 0.0) if end is not None]
    low, high = min(ends), max(ends)

    def place(value: float) -> float:
        return left + (value - low) / ((high - low) or 1) * (WIDTH - left - 24)

    height = len(points) * 24 + 26
    parts = [f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - 22}"/>']
    for number, point in enumerate(points):
        y = number * 24 + 12
        told = f"{point.y}: {figure.show('x', point.x)}"
        whisker = ""
        if point.low is not None and point.high is not None:
            told += f" ({figure.show('low', point.low)} to {figure.show('high', point.high)})"
            whisker = (
                f'<line class="line l0" x1="{place(point.low):.1f}" x2="{place(point.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(
            f'<g class="mark"><title>{escape(told)}</title>{whisker}'
            f'<circle class="s0" cx="{place(point.x):.1f}" cy="{y}" r="5"/>'
            f"{text(left - 8, y + 4, shorten(str(point.y), characters), 'ink', 'end')}</g>"
        )
    parts += [text(place(step), height - 6, figure.show("x", step), "soft", "middle") for step in ticks(low, high, 6)]
    return "".join(parts), height


def _heatmap(figure: Figure) -> tuple[str, int]:
    rows = list(dict.fromkeys(str(point.y) for point in figure.points))[:MOST_BARS]
    moments = sorted({point.x for point in figure.points})
    characters, left = _label_width(rows)
    width = (WIDTH - left - 16) / len(moments)
    top = max(point.value or 0 for point in figure.points) or 1
    places = {moment: number for number, moment in enumerate(moments)}
    parts = [
        text(left - 8, number * 22 + 15, shorten(row, characters), "ink", "end") for number, row in enumerate(rows)
    ]
    for point in figure.points:
        if point.y in rows:
            told = f"{point.y}, {figure.show('x', point.x)}: {figure.show('value', point.value)}"
            parts.append(
                f'<rect class="s0 mark" x="{left + places[point.x] * width:.1f}" y="{rows.index(point.y) * 22}" '
                f'width="{max(width - 1, 1):.1f}" height="20" opacity="{0.05 + 0.95 * (point.value or 0) / top:.2f}">'
                f"<title>{escape(told)}</title></rect>"
            )
    return "".join(parts), len(rows) * 22 + 8
