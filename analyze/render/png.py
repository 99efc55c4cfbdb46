"""The chart as a PNG picture, drawn from the SVG by CairoSVG (an extra: imported only here)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import IO

from analyze.render import svg
from analyze.render.figure import Figure, of_result
from analyze.result import Result
from netrec.errors import UsageError


def write(result: Result, stream: IO[bytes], zone: tzinfo | None, colour: bool) -> None:
    """Write the picture, on light ground, twice as large as the SVG; raises `UsageError` without CairoSVG."""
    write_figures([(result.summary or result.name, of_result(result, zone))], stream)


def write_figures(figures: Sequence[tuple[str, Figure]], stream: IO[bytes]) -> None:
    """The same for titled figures."""
    drawing = svg.document(figures, svg.STYLE + svg.LIGHT)
    try:
        import cairosvg
    except (ImportError, OSError):  # OSError: the package is there, libcairo2 is not
        raise UsageError(
            "PNG needs CairoSVG, which is not installed", "pip install 'netrec[png]', or write an .svg"
        ) from None
    stream.write(cairosvg.svg2png(bytestring=drawing.encode(), scale=2))
