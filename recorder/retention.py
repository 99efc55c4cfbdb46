"""How much disk a trace may take: the oldest finished files go first, and some room always stays free.

Only finished files of this host are ever deleted: never a spool, never another host's file that was copied
into the trace, never anything that is not of the trace's layout.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from netrec.text import format_size, parse_size
from netrec.trace import layout

DEFAULT_FREE_SHARE = 0.05
DEFAULT_FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class MinimumFree:
    """The room that must stay free on the trace's file system: bytes, a share of it, or the smaller of both."""

    bytes: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> MinimumFree:
        """`500MB`, `5%` or `0`; raises `ValueError`."""
        given = text.strip()
        if given.endswith("%"):
            try:
                share = float(given[:-1])
            except ValueError:
                raise ValueError(f"{text!r} is not a percentage; write for example 5%") from None
            if not 0 <= share < 100:
                raise ValueError(f"{text!r} is not between 0% and 100%")
            return cls(share=share / 100)
        return cls(bytes=parse_size(given, allow_zero=True))

    def of(self, total: int) -> int:
        """Bytes to keep free on a file system of `total` bytes."""
        limits = []
        if self.bytes is not None:
            limits.append(self.bytes)
        if self.share is not None:
            limits.append(int(total * self.share))
        return min(limits, default=0)

    def __str__(self) -> str:
        if self.bytes is not None and self.share is not None:
            return f"the smaller of {self.share:.0%} and {format_size(self.bytes)}"
        return f"{self.share:.4%}" if self.share is not None else format_size(self.bytes or 0)


DEFAULT_FREE = MinimumFree(DEFAULT_FREE_BYTES, DEFAULT_FREE_SHARE)


@dataclass(frozen=True)
class Disk:
    """Free and total bytes of a file system, as an ordinary user may use it."""

    free: int
    total: int

    @classmethod
    def of(cls, path: Path) -> Disk:
        """The file system that holds `path`; raises `OSError`."""
        found = os.statvfs(path)
        return cls(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


@dataclass(frozen=True)
class Retention:
    """What to keep: files of the last `age` seconds, and no more than `size` bytes; None: no such limit."""

    age: float | None = None
    size: int | None = None

    def apply(self, trace: Path, host: str, now: datetime) -> list[Path]:
        """Delete what is beyond the limits; the files that went, oldest first.

        A file is as old as the end of its UTC hour. Files of the same hour go in the order of their numbers.
        """
        if self.age is None and self.size is None:
            return []
        files = finished_files(trace, host)
        sizes = {file: _size(trace / file.relative) for file in files}
        total = sum(sizes.values())
        oldest = now - timedelta(seconds=self.age) if self.age is not None else datetime.min.replace(tzinfo=UTC)
        gone = []
        for file in files:
            too_old = file.hour + timedelta(hours=1) <= oldest
            too_much = self.size is not None and total > self.size
            if not (too_old or too_much):
                break
            path = trace / file.relative
            path.unlink(missing_ok=True)
            total -= sizes[file]
            gone.append(path)
            _remove_empty(path.parent, trace)
        return gone


def finished_files(trace: Path, host: str) -> list[layout.TraceFile]:
    """This host's finished files in the trace, oldest first."""
    name = layout.host_for_path(host)
    found = []
    for path in trace.glob("*/date=*/hour=*/*.parquet"):
        file = layout.TraceFile.parse(path.relative_to(trace))
        if file and file.host == name:
            found.append(file)
    return sorted(found, key=lambda file: (file.hour, file.capture, file.sequence, file.table))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove_empty(folder: Path, trace: Path) -> None:
    """Remove hour and date folders that hold nothing any more."""
    for path in (folder, folder.parent):
        try:
            path.rmdir()
        except OSError:
            return
