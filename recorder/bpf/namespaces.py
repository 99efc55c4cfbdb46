"""The network namespaces of this host, and running something in each."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def network_namespaces() -> dict[int, Path]:
    """Inode -> a path that opens it: of every process's namespace and of every named one."""
    found: dict[int, Path] = {}
    candidates = [*Path("/proc").glob("[1-9]*/ns/net"), *Path("/run/netns").glob("*")]
    for path in [Path("/proc/self/ns/net"), *candidates]:
        with contextlib.suppress(OSError):  # processes come and go
            found.setdefault(path.stat().st_ino, path)
    return found


def each_namespace(namespaces: dict[int, Path] | None = None) -> Iterator[int]:
    """Enter every network namespace (or each of those given) in turn, with the calling thread; yields its inode.

    The thread is back in its own namespace when the iteration ends, also when it ends early.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        for inode, path in (network_namespaces() if namespaces is None else namespaces).items():
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except OSError:
                continue
            try:
                # A process may have ended since, and its number be another's.
                if os.fstat(descriptor).st_ino != inode or _libc.setns(descriptor, _CLONE_NEWNET):
                    continue
            finally:
                os.close(descriptor)
            yield inode
    finally:
        if _libc.setns(home, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot return to the recorder's own network namespace")
        os.close(home)
