"""Files and folders of a trace as they are created: with the trace's modes, and durable."""

from __future__ import annotations

import os
from pathlib import Path

from netrec.trace import layout


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents with the trace's mode, whatever the umask, and make that durable."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        try:
            folder.mkdir()
        except FileExistsError:  # another recorder was faster
            continue
        folder.chmod(layout.FOLDER_MODE)
        sync(folder.parent)


def create_file(path: Path) -> int:
    """A new file with the trace's mode, whatever the umask, open for writing; raises `FileExistsError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, layout.FILE_MODE)
    os.fchmod(descriptor, layout.FILE_MODE)
    return descriptor


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
