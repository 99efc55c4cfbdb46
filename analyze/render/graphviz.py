"""A graph in Graphviz's DOT language: `netrec analyze service-map --format graphviz | dot -Tsvg`."""

from __future__ import annotations

from datetime import tzinfo
from typing import IO

from analyze.render.graph import edges
from analyze.result import Result


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write a digraph; a wider edge carries more."""
    nodes, found = edges(result, zone)
    stream.write(f"digraph {_quoted(result.name)} {{\n  rankdir=LR;\n")
    stream.write(
        '  node [shape=box, style=rounded, fontname="sans-serif"];\n  edge [fontname="sans-serif", fontsize=10];\n'
    )
    for number, name in enumerate(nodes):
        stream.write(f"  n{number} [label={_quoted(name)}];\n")
    for edge in found:
        width = f"{1 + 4 * edge.share:.1f}"
        stream.write(f"  n{edge.source} -> n{edge.target} [label={_quoted(edge.label)}, penwidth={width}];\n")
    stream.write("}\n")


def _quoted(text: str) -> str:
    # In a DOT string a backslash begins an escape, of which some stand for names of the graph.
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
