"""What was compiled before, kept on disk: recording begins in half the time.

A file is named after everything that its content depends on: the request and the running kernel (its BTF and version).
What it holds is run by the kernel: it is only believed in a folder that nobody else can write to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from netrec.errors import CannotRecordError
from recorder.bpf.btf import VMLINUX
from recorder.bpf.compiled import Compiled

if TYPE_CHECKING:
    from recorder.bpf.compiler import Request

_FORMAT = 1
_KEEP = 32


def folder() -> Path:
    """$CACHE_DIRECTORY (of a systemd unit), /var/cache/netrec for root, else $XDG_CACHE_HOME/netrec."""
    given = os.environ.get("CACHE_DIRECTORY", "").partition(":")[0]
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/cache/netrec")
    home = os.environ.get("HOME", "/nonexistent")
    return Path(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", "netrec")


def place(request: Request) -> Path:
    """The file for this request on this kernel; raises `CannotRecordError` when the kernel has no BTF."""
    try:
        kernel = VMLINUX.read_bytes()
    except OSError:
        raise CannotRecordError(f"this kernel has no BTF ({VMLINUX} cannot be read)", "see netrec doctor") from None
    digest = hashlib.sha256(kernel)
    digest.update(json.dumps([_FORMAT, *os.uname()[2:], asdict(request)]).encode())
    return folder() / f"{digest.hexdigest()}.json"


def find(path: Path) -> Compiled | None:
    """What is kept there; None when there is nothing that can be believed."""
    try:
        if not _ours_alone(path.parent.lstat()):
            return None
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            if not _ours_alone(os.fstat(file.fileno())):
                return None
            digest, _, data = file.read().partition(b"\n")
        if digest.decode() != hashlib.sha256(data).hexdigest():
            return None
        return Compiled.from_json(json.loads(data))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(path: Path, compiled: Compiled) -> None:
    """Keep it there if that is possible; the oldest files beyond a few are removed."""
    data = json.dumps(compiled.as_json()).encode()
    new = path.with_suffix(f".{os.getpid()}.new")
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours_alone(path.parent.lstat()):
            return
        try:
            new.write_bytes(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
            new.rename(path)
        finally:
            new.unlink(missing_ok=True)
        by_age = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for old in by_age[:-_KEEP]:
            old.unlink(missing_ok=True)


def _ours_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
