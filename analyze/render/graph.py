"""The edges of a graph, once, for the languages of drawing tools: nodes numbered, edges with their label and share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo

from analyze.render.figure import of_result
from analyze.result import Result
from netrec.errors import UsageError


@dataclass(frozen=True)
class Edge:
    """From node to node (numbers), its label, and its size as a part of the largest (0 to 1)."""

    source: int
    target: int
    label: str
    share: float


def edges(result: Result, zone: tzinfo | None) -> tuple[list[str], list[Edge]]:
    """Names of the nodes and the edges between them; raises `UsageError` when the query declares no graph."""
    if result.chart is None or result.chart.kind != "graph":
        raise UsageError(
            f"{result.name or 'this'} has no graph to draw",
            "graphviz and mermaid are forms of service-map and process-map",
        )
    figure = of_result(result, zone)
    numbers: dict[str, int] = {}
    largest = max((point.value or 0 for point in figure.points), default=0) or 1
    found = []
    for point in figure.points:
        source, target = (numbers.setdefault(str(name), len(numbers)) for name in (point.x, point.y))
        size = figure.show("size", point.value) if point.value is not None else ""
        label = ", ".join(text for text in (point.label, size) if text)
        found.append(Edge(source, target, label, (point.value or 0) / largest))
    return list(numbers), found
