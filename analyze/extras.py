"""Optional dependencies: a missing one is a sentence with the line that installs it."""

from __future__ import annotations

import importlib.util
import os
import threading

from netrec.errors import UsageError


def need_statistics() -> None:
    """Raise `UsageError` unless the packages of the extra `statistics` are installed."""
    if importlib.util.find_spec("scipy") is None:
        raise UsageError("this analysis needs scipy", "install with: pip install 'netrec[statistics]'")
    # OpenBLAS spins up threads in NumPy and again in SciPy; no matrix here is large enough for one of them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def import_meanwhile() -> None:
    """Import scipy's special functions (not scipy.stats: that takes as long as to read millions of rows) while DuckDB
    reads the trace. They come last in an analysis; `import scipy` alone does not load them.
    """
    threading.Thread(target=importlib.import_module, args=("scipy.special",)).start()
