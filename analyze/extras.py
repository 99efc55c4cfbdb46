"""Optional dependencies: a missing one is a sentence with the line that installs it."""

from __future__ import annotations

import importlib.util

from netrec.errors import UsageError


def need_statistics() -> None:
    """Raise `UsageError` unless the packages of the extra `statistics` are installed."""
    if importlib.util.find_spec("scipy") is None:
        raise UsageError("this analysis needs scipy", "install with: pip install 'netrec[statistics]'")
