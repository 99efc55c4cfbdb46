"""A graph in Mermaid's language, which wikis and code forges draw: `netrec analyze service-map --format mermaid`."""

from __future__ import annotations

import re
from datetime import tzinfo
from typing import IO

from analyze.render.graph import edges
from analyze.result import Result

# Everything that Mermaid, Markdown or the HTML that it draws into would act on goes in as a character's number.
_SPECIAL = re.compile(r"[^\w .,:/+@-]", re.ASCII)


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write a flowchart from left to right."""
    nodes, found = edges(result, zone)
    stream.write("flowchart LR\n")
    for number, name in enumerate(nodes):
        stream.write(f'  n{number}["{_escape(name)}"]\n')
    for edge in found:
        label = f'|"{_escape(edge.label)}"|' if edge.label else ""
        stream.write(f"  n{edge.source} -->{label} n{edge.target}\n")


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda match: f"#{ord(match[0])};", text)
