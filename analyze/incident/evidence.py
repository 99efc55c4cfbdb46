"""Checking an evidence bundle: every member against the SHA-256 that its manifest gives, packed or unpacked.

The hashes show what changed since the bundle was written; whoever rewrites the manifest too goes unnoticed, so compare
the bundle's own SHA-256 with its author's where that matters.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from netrec.errors import TraceError

MANIFEST = "manifest.json"
_UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def is_bundle(path: Path) -> bool:
    """Whether this is a ZIP file, or a folder with a manifest: a trace has none."""
    return (path / MANIFEST).is_file() if path.is_dir() else zipfile.is_zipfile(path)


def problems_of(path: Path) -> tuple[list[str], int]:
    """What differs from the manifest, one sentence each, and how many members are as they were.

    Raises `TraceError` when this is no evidence bundle.
    """
    if path.is_dir():
        return _check(path, _files_of(path), lambda name: (path / name).open("rb"))
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            return _check(path, names, archive.open)
    except (OSError, zipfile.BadZipFile) as problem:
        raise TraceError(f"{path} cannot be read: {problem}", "ask its author for it again") from None


def _files_of(folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]


def _check(path: Path, names: list[str], open_member: Any) -> tuple[list[str], int]:
    hashes = _hashes(path, open_member)
    problems, good = [], 0
    for name, expected in sorted(hashes.items()):
        if name not in names:
            problems.append(f"{path}: {name} is missing")
            continue
        try:
            with open_member(name) as member:
                found = hashlib.file_digest(member, "sha256").hexdigest()
        except _UNREADABLE as problem:
            problems.append(f"{path}: {name} is damaged: {problem}")
            continue
        if found == expected:
            good += 1
        else:
            problems.append(f"{path}: {name} differs: its SHA-256 is {found}, the manifest says {expected}")
    extra = sorted(set(names) - set(hashes) - {MANIFEST})
    problems += [f"{path}: {name} was added: the manifest does not know it" for name in extra]
    twice = sorted({name for name in names if names.count(name) > 1})
    problems += [f"{path}: {name} is in it more than once" for name in twice]
    return problems, good


def _hashes(path: Path, open_member: Any) -> dict[str, str]:
    try:
        member: IO[bytes]
        with open_member(MANIFEST) as member:
            found = json.load(member)["sha256"]
    except (KeyError, TypeError, ValueError, *_UNREADABLE):
        found = None
    if not isinstance(found, dict) or not found:
        raise TraceError(
            f"{path} is no evidence bundle: it has no {MANIFEST} with hashes", "name the FILE of --bundle"
        ) from None
    return {str(name): str(digest) for name, digest in found.items()}
