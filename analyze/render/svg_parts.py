"""What the drawings share: the width, the colours, and texts that strangers' names cannot break out of."""

from __future__ import annotations

import html
from collections.abc import Sequence

WIDTH = 680
SERIES = ("#2f6fde", "#e08a00", "#1a9d6c", "#b5489b", "#7a6ff0", "#c8453b", "#5f8a1d", "#0f93b5")
CHARACTER = 7.3  # mean width of a character of the labels, in units of the drawing


def escape(text: object) -> str:
    """A text for SVG and HTML, also inside quoted attributes."""
    return html.escape(str(text), quote=True)


def text(x: float, y: float, content: str, kind: str = "soft", anchor: str = "start") -> str:
    """A label."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def label_width(labels: Sequence[str]) -> tuple[int, float]:
    """How many characters of the labels are shown, and the room that they take."""
    characters = min(max(len(label) for label in labels), 34)
    return characters, characters * CHARACTER + 12
