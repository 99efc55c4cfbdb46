"""A SELECT's rows as a Polars frame, and the record of what was asked (for evidence that others can re-run)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

import polars as pl

from analyze import engine

if TYPE_CHECKING:
    from analyze.result import Result
    from analyze.scan import Into, Scan

Found = TypeVar("Found")
# Analyses hand frames to the connection, too.
engine.exchange_arrow()

_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)


def frame(scan: Scan, sql: str, parameters: dict[str, Any] | None = None) -> pl.DataFrame:
    """A small SELECT's rows; text columns are plain strings. Errors are those of `Scan.query`."""
    _record(sql)
    return taken(scan.query(sql, parameters))


def taken(result: Result) -> pl.DataFrame:
    """All rows of a small result."""
    found = pl.from_arrow(result.arrow())
    assert isinstance(found, pl.DataFrame)
    return found.with_columns(pl.col(pl.Categorical).cast(pl.String))


def fold(scan: Scan, sql: str, fresh: Callable[[], Into]) -> Into:
    """Give the rows of a large SELECT to what `fresh` makes, batch by batch. Errors are those of `Scan.query`."""
    _record(sql)
    return scan.fold(sql, fresh)


def at_once(function: Callable[..., Found], scans: Sequence[Scan], *others: Iterable[Any]) -> list[Found]:
    """`map` over scans, with all calls at the same time: while one of them is busy in Python, the other reads.

    What is asked is recorded in the order of the scans.
    """

    def answer(*each: Any) -> tuple[Found, list[str]]:
        with recorded() as asked:
            return function(*each), asked

    with ThreadPoolExecutor(len(scans)) as pool:
        try:
            found = list(pool.map(answer, scans, *others))
        except BaseException:
            for scan in scans:
                scan.connection.interrupt()
            raise
    for _, asked in found:
        for sql in asked:
            _record(sql)
    return [one for one, _ in found]


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect the SQL of every `frame` inside the block; blocks may stand in one another."""
    asked: list[str] = []
    outer = _asked.get()
    token = _asked.set(asked)
    try:
        yield asked
    finally:
        _asked.reset(token)
        if outer is not None:
            outer += asked


def _record(sql: str) -> None:
    asked = _asked.get()
    if asked is not None:
        asked.append(sql)
