"""How far a long statement is: a line on standard error, on a terminal only, after a second, gone when it is done."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

PATIENCE, STEP, WIDTH = 1.0, 0.2, 30
_line = threading.Lock()  # of statements that run at the same time one has the line


def line(percent: float, ascii_only: bool = False) -> str:
    """The bar for 0 to 100 per cent; DuckDB says -1 while it does not know."""
    share = min(max(percent, 0.0), 100.0) / 100
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    done = int(share * WIDTH)
    return f"reading {full * done}{empty * (WIDTH - done)} {share:4.0%}"


@contextlib.contextmanager
def shown(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Show the progress of the statement that `connection` runs inside."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(connection, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(connection: duckdb.DuckDBPyConnection, over: threading.Event) -> None:
    if over.wait(PATIENCE) or not _line.acquire(blocking=False):
        return
    try:
        _draw(connection, over)
    finally:
        _line.release()


def _draw(connection: duckdb.DuckDBPyConnection, over: threading.Event) -> None:
    ascii_only = "utf" not in (sys.stderr.encoding or "").lower()
    while not over.wait(STEP):
        sys.stderr.write("\r" + line(connection.query_progress(), ascii_only))
        sys.stderr.flush()
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()
