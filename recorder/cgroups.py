"""The host's cgroups (version 2): number <-> path, and which of a filter's cgroup terms each one belongs to.

A cgroup's number is the inode of its folder; the kernel gives the same number as the id of a socket's or task's cgroup.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from netrec.errors import CannotRecordError
from netrec.filter.nodes import Owner
from recorder.owner_names import names_from_cgroup_path


def mount_point(mounts: Path = Path("/proc/self/mounts")) -> Path:
    """Where the cgroup file system (version 2) is mounted; raises `CannotRecordError` where it is not."""
    for line in mounts.read_text().splitlines():
        _, folder, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(folder.encode().decode("unicode_escape"))
    raise CannotRecordError(
        "this host has no cgroup file system of version 2", "mount it: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def paths(root: Path | None = None, below: str = "/") -> dict[int, str]:
    """Number -> path (from the mount point, `/` first) of the cgroup `below` and all below it; empty when it is not."""
    root = root or mount_point()
    found: dict[int, str] = {}
    pending = [str(root) + below.rstrip("/")]
    while pending:
        folder = pending.pop()
        try:
            found[Path(folder).stat().st_ino] = folder[len(str(root)) :] or "/"
            with os.scandir(folder) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone meanwhile
    return found


def numbers_below(path: str) -> Collection[int]:
    """The numbers of a cgroup and of all below it: what `cgroup /path` means in a filter."""
    return paths(below=path).keys()


def term_bits(terms: tuple[Owner, ...], cgroups: Iterable[tuple[int, str]]) -> dict[int, int]:
    """For each cgroup (number, path) that belongs to a term, the bits of the terms that it belongs to.

    This is the map that a compiled filter (`netrec.filter.bpf`) asks for. Cgroups of no term are left out.
    """
    found = {}
    for number, path in cgroups:
        bits = sum(1 << index for index, term in enumerate(terms) if _belongs(term, path))
        if bits:
            found[number] = bits
    return found


def _belongs(term: Owner, path: str) -> bool:
    value = str(term.value)
    if term.kind == "cgroup":
        return value == "/" or path == value or path.startswith(f"{value}/")
    names = names_from_cgroup_path(path)
    if term.kind == "container":
        return (names.container_id or "").startswith(value)
    return names.unit == value
