"""A SELECT's rows as a Polars frame, and the record of what was asked (for evidence that others can re-run)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import polars as pl

from analyze import engine

if TYPE_CHECKING:
    from analyze.scan import Into, Scan

# Analyses hand frames to the connection, too.
engine.exchange_arrow()

_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)


def frame(scan: Scan, sql: str, parameters: dict[str, Any] | None = None) -> pl.DataFrame:
    """A small SELECT's rows; text columns are plain strings. Errors are those of `Scan.query`."""
    _record(sql)
    found = pl.from_arrow(scan.query(sql, parameters).arrow())
    assert isinstance(found, pl.DataFrame)
    return found.with_columns(pl.col(pl.Categorical).cast(pl.String))


def fold(scan: Scan, sql: str, fresh: Callable[[], Into]) -> Into:
    """Give the rows of a large SELECT to what `fresh` makes, batch by batch. Errors are those of `Scan.query`."""
    _record(sql)
    return scan.fold(sql, fresh)


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
