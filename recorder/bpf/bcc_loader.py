"""bcc from the distribution's packages, whatever Python this is.

bcc is pure Python over libbcc; the distribution installs it for its own interpreter only, and the PyPI package
named `bcc` is something else. So it is imported by its path.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from netrec.errors import CannotRecordError

FIX = "apt-get install python3-bpfcc   (Fedora, RHEL: dnf install python3-bcc)"


def bcc_folder() -> Path | None:
    """The folder of the distribution's bcc package, or None. NETREC_BCC overrides the search."""
    given = os.environ.get("NETREC_BCC")
    candidates = [Path(given)] if given is not None else []
    if not candidates:
        candidates = [Path("/usr/lib/python3/dist-packages/bcc")]
        for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib"):
            candidates += sorted(Path(root).glob("python3*/*-packages/bcc"))
    for folder in candidates:
        # The unrelated PyPI package has no libbcc.py.
        if (folder / "libbcc.py").is_file():
            return folder
    return None


def load_bcc() -> ModuleType:
    """Import the distribution's bcc; raises `CannotRecordError` when it or libbcc is missing."""
    folder = bcc_folder()
    if folder is None:
        raise CannotRecordError("bcc is not installed", f"install it: {FIX}")
    spec = importlib.util.spec_from_file_location(
        "bcc", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError) as problem:
        raise CannotRecordError(f"bcc cannot be loaded ({problem})", f"install it again: {FIX}") from None
    return module
