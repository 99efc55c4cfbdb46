"""Keeps the recorder's resident memory small and flat.

Arrow allocates from the system's allocator, which is told to use one arena and to hand large blocks straight
back to the kernel: a row group is held for milliseconds, and nothing of it should stay. What is smaller is used again:
columns on their way to the spool (`recorder.sources.ebpf.intake`) are, because a page from the kernel takes longer than
what is put there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.abc import MetaPathFinder

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 128 * 1024
_KEPT = 1 << 20  # free memory at the end of the heap


# The libraries' own pools would start threads when they are imported: memory for nothing, and capabilities that could
# not be taken from them any more.
_NO_THREADS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
}


def prepare() -> None:
    """Call before NumPy and Arrow are imported for the first time."""
    for name, value in _NO_THREADS.items():
        os.environ.setdefault(name, value)


class _WithoutPandas(MetaPathFinder):
    """Arrow imports pandas, where that is installed, to see whether a list is one of its series: 40 MB for nothing."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("a recorder has no use for pandas", name=name)


def configure() -> None:
    """Set up the allocators; call once, before anything large is allocated. Without glibc nothing is set."""
    sys.meta_path.insert(0, _WithoutPandas())
    import pyarrow as pa

    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, 2)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    except (OSError, AttributeError):
        return
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
