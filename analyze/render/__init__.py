"""Result -> text or file, one module a format; nothing here computes.

Each module has `write(result, stream, zone, colour)`. Text from strangers is escaped in what people read (table,
Markdown) and quoted by the rules of the format in what programs read.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import tzinfo
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from netrec.errors import UsageError

if TYPE_CHECKING:
    from analyze.render.figure import Figure
    from analyze.result import Result

FORMATS = {
    "table": "analyze.render.table",
    "json": "analyze.render.json",
    "ndjson": "analyze.render.ndjson",
    "csv": "analyze.render.csv",
    "parquet": "analyze.render.parquet",
    "markdown": "analyze.render.markdown",
    "html": "analyze.render.html",
    "plot": "analyze.render.plot",
    "svg": "analyze.render.svg",
    "png": "analyze.render.png",
    "graphviz": "analyze.render.graphviz",
    "mermaid": "analyze.render.mermaid",
}
# What the end of a file's name says of its form, where no --format is given.
_SUFFIXES = {
    ".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet", ".md": "markdown",
    ".html": "html", ".svg": "svg", ".png": "png", ".dot": "graphviz", ".gv": "graphviz", ".mmd": "mermaid",
}  # fmt: skip
# These carry the window, losses and notes beside the rows; the others have no place for them.
SHOWS_CONTEXT = {"table", "json", "markdown", "html", "plot"}
BINARY = {"parquet", "png"}
DRAWN = {"svg", "png", "html"}
DRAWINGS = {"plot", "svg", "png", "graphviz", "mermaid"}
TAKES_SEVERAL = {"plot", "svg", "png"}  # have `write_figures`: several figures under each other


def format_of(path: str | None) -> str:
    """The format that a file's name asks for; a table when it asks for none."""
    return _SUFFIXES.get(Path(path).suffix.lower(), "table") if path else "table"


def write(result: Result, format: str, stream: IO[Any], zone: tzinfo | None = None, *, colour: bool = False) -> None:
    """Write a result in one of `FORMATS`; `zone` None is the machine's time zone."""
    importlib.import_module(FORMATS[format]).write(result, stream, zone, colour and _is_terminal(stream))


def write_figures(figures: Sequence[tuple[str, Figure]], format: str, stream: IO[Any]) -> None:
    """Write titled figures in one of `TAKES_SEVERAL`."""
    importlib.import_module(FORMATS[format]).write_figures(figures, stream)


@contextlib.contextmanager
def opened(path: str | None, format: str) -> Iterator[IO[Any]]:
    """Standard output, or the file: it appears whole or not at all. Raises `UsageError` when it cannot be written.

    What is there and no file (a device, a pipe) is written to, not replaced; nor is a link, but the file behind it.
    """
    if path in (None, "-", "/dev/stdout"):
        yield sys.stdout.buffer if format in BINARY else sys.stdout
        sys.stdout.flush()
        return
    target = Path(path)
    if target.is_file():
        target = target.resolve()
    whole = target.is_file() or not target.exists()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial") if whole else target
    try:
        stream: IO[Any] = partial.open("wb") if format in BINARY else partial.open("w", encoding="utf-8", newline="")
    except OSError as problem:
        raise UsageError(
            f"cannot write {path!r} ({problem.strerror})", "name a file in a folder that you can write"
        ) from None
    try:
        with stream:
            yield stream
        if whole:
            partial.replace(target)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise UsageError(
            f"cannot write {path!r} ({problem.strerror})", "free some space or name another file"
        ) from None
    finally:
        if whole:
            partial.unlink(missing_ok=True)


def _is_terminal(stream: IO[Any]) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
