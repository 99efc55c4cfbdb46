"""Attaching to the root of cgroup2, and so to every cgroup of the host."""

from __future__ import annotations

import os
from collections.abc import Mapping

from netrec.errors import CannotRecordError
from recorder.bpf import syscalls
from recorder.bpf.compiler import Loaded, attach_type
from recorder.sources.ebpf.owners import cgroup2_mount


def attach(loaded: Loaded, hooks: Mapping[str, str], otherwise: str) -> list[int]:
    """Attach each program to its kind of hook; the links' descriptors. All or none: raises `CannotRecordError`.

    `otherwise` tells the user how to record without.
    """
    mount = cgroup2_mount()
    if mount is None:
        raise CannotRecordError(
            "UDP, ICMP and DNS are seen at cgroup2, which is not mounted",
            f"mount -t cgroup2 none /sys/fs/cgroup, or {otherwise}",
        )
    root = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    links: list[int] = []
    try:
        for name, kind in hooks.items():
            links.append(syscalls.attach_cgroup(loaded.functions[name], root, attach_type(kind)))
    except CannotRecordError:
        for link in links:
            os.close(link)
        raise
    finally:
        os.close(root)
    return links
