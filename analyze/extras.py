"""Optional dependencies: a missing one is a sentence with the line that installs it."""

from __future__ import annotations

import importlib.util

from netrec.errors import UsageError


def need_statistics() -> None:
    """Raise `UsageError` unless the packages of the extra `statistics` are installed."""
    missing = [name for name in ("scipy", "ruptures") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"this analysis needs {' and '.join(missing)}", "install with: pip install 'netrec[statistics]'"
        )
