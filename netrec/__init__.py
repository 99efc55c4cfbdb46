"""netrec: a batch recorder of network traffic and an offline analysis toolkit.

`netrec.open("DIR")` opens a trace for notebooks: see `analyze.notebook.Trace`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyze.notebook import Trace

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(*folders: Any, **options: Any) -> Trace:
    """Open one or more trace folders for reading from Python.

    Imported lazily: the recorder must never pay for DuckDB. Raises `netrec.errors.TraceError` when a
    folder does not exist or holds no trace.
    """
    from analyze.notebook import Trace

    return Trace(*folders, **options)
