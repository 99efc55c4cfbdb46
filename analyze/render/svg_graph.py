"""A graph as SVG: who calls on the left of whom, in layers; what calls itself in a circle is cut where it closes."""

from __future__ import annotations

import html

from analyze.render.figure import Figure, Point
from analyze.render.svg_parts import WIDTH
from analyze.render.table import shorten

_BOX, _ROW, _CHARACTERS = 150, 34, 20
MOST_EDGES = 60


def draw(figure: Figure) -> tuple[str, int]:
    """The drawing's elements and its height; the largest edges when there are very many."""
    points = sorted(figure.points, key=lambda point: -(point.value or 0))[:MOST_EDGES]
    layers = _layers(points)
    columns: dict[int, list[str]] = {}
    for name, layer in layers.items():
        columns.setdefault(layer, []).append(name)
    tallest = max(len(names) for names in columns.values())
    step = (WIDTH - _BOX - 4) / max(1, max(columns))
    places: dict[str, tuple[float, float]] = {}
    for layer, names in columns.items():
        offset = (tallest - len(names)) * _ROW / 2
        for number, name in enumerate(names):
            places[name] = (2 + layer * step, 4 + offset + number * _ROW)
    largest = max((point.value or 0 for point in points), default=0) or 1
    parts = [_edge(figure, point, places, largest) for point in points]
    parts += [_node(name, *places[name]) for name in layers]
    height = tallest * _ROW + 8
    if len(figure.points) > MOST_EDGES:
        told = f"the {MOST_EDGES} largest of {len(figure.points)} edges"
        parts.append(f'<text class="soft" x="4" y="{height + 12}">{told}</text>')
        height += 20
    return "".join(parts), height


def _layers(points: list[Point]) -> dict[str, int]:
    """The longest way from a node that nobody calls; edges that close a circle do not count."""
    names = list(dict.fromkeys(str(name) for point in points for name in (point.x, point.y)))
    layers = dict.fromkeys(names, 0)
    called = [(str(point.x), str(point.y)) for point in points if point.x != point.y]
    below: dict[str, set[str]] = {name: set() for name in names}
    forward = []
    for source, target in called:
        if not _reaches(below, target, source):
            below[source].add(target)
            forward.append((source, target))
    for _ in names:
        for source, target in forward:
            layers[target] = max(layers[target], layers[source] + 1)
    return layers


def _reaches(below: dict[str, set[str]], start: str, goal: str) -> bool:
    seen, ahead = set(), [start]
    while ahead:
        name = ahead.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            ahead += below[name]
    return False


def _edge(figure: Figure, point: Point, places: dict[str, tuple[float, float]], largest: float) -> str:
    (x1, y1), (x2, y2) = places[str(point.x)], places[str(point.y)]
    port = f":{point.label}" if point.label else ""
    size = f", {figure.show('size', point.value)}" if point.value is not None else ""
    told = html.escape(f"{point.x} to {point.y}{port}{size}", quote=True)
    start, end = x1 + _BOX, x2
    y1, y2 = y1 + 13, y2 + 13
    middle = (start + end) / 2
    if x1 == x2:  # to itself or within a layer: around the right side
        middle, end = start + 40, start
    width = 1 + 5 * (point.value or 0) / largest
    return (
        f'<path class="line l0 mark" opacity=".55" stroke-width="{width:.1f}" '
        f'd="M{start:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {end:.1f} {y2:.1f}">'
        f"<title>{told}</title></path>"
    )


def _node(name: str, x: float, y: float) -> str:
    full, short = html.escape(name, quote=True), html.escape(shorten(name, _CHARACTERS), quote=True)
    return (
        f'<g><title>{full}</title><rect class="node" x="{x:.1f}" y="{y:.1f}" width="{_BOX}" height="26" rx="5"/>'
        f'<text class="ink" x="{x + _BOX / 2:.1f}" y="{y + 17:.1f}" text-anchor="middle">{short}</text></g>'
    )
