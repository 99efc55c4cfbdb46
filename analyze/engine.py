"""DuckDB's engine, without the Python layer over it.

The engine and its exceptions live in the module `_duckdb`; the package `duckdb` adds relations and expressions in
Python and takes four times as long to import, which is a fifth of the time of a small query. Both can be used side by
side: the classes are the same. A release of DuckDB without the inner module works too, more slowly.

Arrow tables go in and out through the Python layer: call `exchange_arrow` before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb as duckdb
else:
    try:
        import _duckdb as duckdb
    except ImportError:
        import duckdb as duckdb

__all__ = ["duckdb", "exchange_arrow"]


def exchange_arrow() -> None:
    """Make `register` take Arrow tables and results give them, on every connection, open ones included."""
    importlib.import_module("duckdb")
