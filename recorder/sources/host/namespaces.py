"""The network namespaces to read, and being in one."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from netrec.errors import CannotRecordError

_CLONE_NEWNET = 0x40000000
_NAMED = Path("/run/netns")
OWN = Path("/proc/thread-self/ns/net")
# So many namespaces are read at most; the host's own always is.
MAXIMUM = 1024
_libc = ctypes.CDLL(None, use_errno=True)


def chosen(names: tuple[str, ...]) -> dict[int, Path]:
    """Inode -> path of the network namespaces asked for; without names the recorder's own.

    A name is one of `ip netns`, the path of a namespace, a process's number, or `all`. Raises `CannotRecordError`
    for one that does not exist.
    """
    if "all" in names:
        return every()
    found = {}
    for path in [_path(name) for name in names] or [OWN]:
        try:
            found[path.stat().st_ino] = path
        except OSError as problem:
            raise CannotRecordError(
                f"the network namespace {path} cannot be read ({problem.strerror})", "ip netns list shows their names"
            ) from None
    return found


def _path(name: str) -> Path:
    if name.startswith("/"):
        return Path(name)
    return Path(f"/proc/{name}/ns/net") if name.isdigit() else _NAMED / name


def every() -> dict[int, Path]:
    """Every network namespace that has a name or a process; the recorder's own first."""
    found = {OWN.stat().st_ino: OWN}
    named = sorted(_NAMED.iterdir()) if _NAMED.is_dir() else []
    for path in [*named, *Path("/proc").glob("[0-9]*/ns/net")]:
        if len(found) >= MAXIMUM:
            break
        with contextlib.suppress(OSError):  # processes come and go, and some may not be looked at
            found.setdefault(path.stat().st_ino, path)
    return found


@contextlib.contextmanager
def inside(path: Path) -> Iterator[None]:
    """The calling thread is in this network namespace while the block runs; `OSError` when it cannot enter."""
    with contextlib.ExitStack() as stack:
        home, there = (os.open(each, os.O_RDONLY | os.O_CLOEXEC) for each in (OWN, path))
        stack.callback(os.close, home)
        stack.callback(os.close, there)
        _enter(there)
        stack.callback(_enter, home)
        yield


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
