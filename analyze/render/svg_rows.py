"""Drawings of which every row has a label on the left: bars, intervals, spans of time, heat maps."""

from __future__ import annotations

import statistics

from analyze.render.figure import Figure, ticks, time_label, time_ticks
from analyze.render.svg_parts import CHARACTER, WIDTH, escape, label_width, text
from analyze.render.table import shorten

MOST_BARS = 40
CLIP = 4.0  # ends of intervals beyond so many times the usual one leave the drawing, with an arrow


def bars(figure: Figure) -> tuple[str, int]:
    points = figure.points[:MOST_BARS]
    characters, left = label_width([str(point.y) for point in points])
    values = [figure.show("x", point.x) for point in points]
    right = max(len(value) for value in values) * CHARACTER + 12
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


def intervals(figure: Figure) -> tuple[str, int]:
    """Points with their intervals, zero, and the range that does not matter."""
    points = figure.points[:MOST_BARS]
    characters, left = label_width([str(point.y) for point in points])
    ends = [end for point in points for end in (point.x, point.low, point.high) if end is not None]
    limits = [point.limit for point in points if point.limit is not None]
    # One wild interval must not squeeze the others into a dot, nor a wide range that does not matter.
    most = max(CLIP * statistics.median(abs(end) for end in ends), *(2 * limit for limit in sorted(limits)[:1])) or 1.0
    low, high = max(min([*ends, *(-limit for limit in limits), 0.0]), -most), min(max([*ends, *limits, 0.0]), most)

    def place(value: float) -> float:
        return left + (min(max(value, low), high) - low) / ((high - low) or 1) * (WIDTH - left - 24)

    height = len(points) * 24 + 26
    parts = []
    for number, point in enumerate(points):
        y = number * 24 + 12
        told = f"{point.y}: {figure.show('x', point.x)}"
        drawn = ""
        if point.limit is not None:
            drawn = (
                f'<rect class="calm" x="{place(-point.limit):.1f}" y="{y - 12}" '
                f'width="{place(point.limit) - place(-point.limit):.1f}" height="24"/>'
            )
            told += f"; matters from {figure.show('limit', point.limit)}"
        if point.low is not None and point.high is not None:
            told += f" ({figure.show('low', point.low)} to {figure.show('high', point.high)})"
            drawn += (
                f'<line class="line l0" x1="{place(point.low):.1f}" x2="{place(point.high):.1f}" y1="{y}" y2="{y}"/>'
            )
            drawn += "".join(
                f'<path class="s0" d="M{place(end):.1f} {y - 5}l{turn * 7} 5l{-turn * 7} 5z"/>'
                for end, turn in ((point.low, -1), (point.high, 1))
                if not low <= end <= high
            )
        if low <= point.x <= high:
            drawn += f'<circle class="s0" cx="{place(point.x):.1f}" cy="{y}" r="5"/>'
        parts.append(
            f'<g class="mark"><title>{escape(told)}</title>{drawn}'
            f"{text(left - 8, y + 4, shorten(str(point.y), characters), 'ink', 'end')}</g>"
        )
    parts.append(f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0" y2="{height - 22}"/>')
    parts += [text(place(step), height - 6, figure.show("x", step), "soft", "middle") for step in ticks(low, high, 6)]
    return "".join(parts), height


def spans(figure: Figure) -> tuple[str, int]:
    """Bars over time, in the order of the rows."""
    points = figure.points[:MOST_BARS]
    characters, left = label_width([str(point.y) for point in points])
    known = [end for point in points for end in (point.x, point.low, point.high, point.end) if end is not None]
    low, high = min(known), max(known)
    margin = (high - low) * 0.04 or 1_000_000
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 24)

    height = len(points) * 24 + 26
    steps = time_ticks(low, high, 6)
    parts = [
        f'<line class="grid" x1="{place(step):.1f}" x2="{place(step):.1f}" y1="0" y2="{height - 22}"/>'
        for step in steps
    ]
    for number, point in enumerate(points):
        y = number * 24 + 12
        end = point.end if point.end is not None else high
        until = figure.show("end", point.end) if point.end is not None else "still so"
        told = f"{point.y}: {figure.show('x', point.x)} to {until}" + (f", {point.label}" if point.label else "")
        bar = (
            f'<rect class="s0" x="{place(point.x):.1f}" y="{y - 7}" width="{max(place(end) - place(point.x), 2):.1f}" '
        )
        drawn = f'{bar} height="14" rx="2" opacity=".75"/>'
        if point.low is not None and point.high is not None:
            drawn += (
                f'<line class="line l5" x1="{place(point.low):.1f}" x2="{place(point.high):.1f}" y1="{y}" y2="{y}"/>'
            )
        parts.append(
            f'<g class="mark"><title>{escape(told)}</title>{drawn}'
            f"{text(left - 8, y + 4, shorten(str(point.y), characters), 'ink', 'end')}</g>"
        )
    parts += [
        text(place(step), height - 6, time_label(step, low, high, figure.zone), "soft", "middle") for step in steps
    ]
    return "".join(parts), height


def heatmap(figure: Figure) -> tuple[str, int]:
    rows = list(dict.fromkeys(str(point.y) for point in figure.points))[:MOST_BARS]
    moments = sorted({point.x for point in figure.points})
    characters, left = label_width(rows)
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
