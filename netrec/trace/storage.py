"""Files and folders of a trace as they are created: with the trace's modes, and durable."""

from __future__ import annotations

import fcntl
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


def lock(path: Path) -> int | None:
    """An open descriptor of the file at `path`, made if it is not there, that holds its lock until it is closed.

    None when someone else holds it, or its folder has just gone. Who holds the lock may remove the file.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, layout.FILE_MODE)
    except FileNotFoundError:
        return None
    try:
        os.fchmod(descriptor, layout.FILE_MODE)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file between our open and our lock.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def sync(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
