"""Never fill the disk: decides each second whether there is room to go on writing.

What is in the spools still has to become Parquet, so room for that is part of what must be free.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from netrec.text import format_size
from recorder.convert import Converted, Converter
from recorder.retention import Disk, MinimumFree
from recorder.rotate import OpenSpools

# Parquet bytes per spool byte before anything is known of this host's traffic (measured: 0.04 to 0.12).
FIRST_RATIO = 0.1
# Small spools are mostly footer; what they teach about the ratio is wrong for large ones.
_TEACHING_BYTES = 1_000_000
# The least that one more second is expected to need.
_STEP_BYTES = 64 * 1024
# Seconds' worth of rows: with less room than the first it pauses, with more than the second it goes on.
_PAUSE_STEPS, _RESUME_STEPS = 1.5, 3
_WORTH_ROTATING = 2_000_000
# A spool that found no room is tried again after this time.
_RETRY_US = 10_000_000


@dataclass(frozen=True)
class Gap:
    """Time without recording: since when (microseconds since 1970), and why."""

    begun_us: int
    reason: str


class DiskGuard:
    """Knows the room that is left; while it is paused, nothing is appended."""

    def __init__(self, trace: Path, minimum: MinimumFree, rotate_size: int) -> None:
        self._trace = trace
        self._minimum = minimum
        self._rotate_size = rotate_size
        self._ratio = FIRST_RATIO
        self._gap: Gap | None = None
        self._paused = False
        self._told = True
        self._room = 0
        self._step = _STEP_BYTES
        self._last_bytes = 0
        self._retried_us = 0

    @property
    def reason(self) -> str:
        """Why nothing is being written; empty when it is."""
        return self._gap.reason if self._gap and self._paused else ""

    def check(self, spools: OpenSpools, converter: Converter, now_us: int) -> bool:
        """Whether the next second may be written."""
        written = spools.bytes
        if written > self._last_bytes:
            self._step = max(_STEP_BYTES, int(max(written - self._last_bytes, self._step * 0.9)))
        self._last_bytes = written
        try:
            disk = Disk.of(_existing(self._trace))
        except OSError as problem:
            self.failed(problem, now_us)
            return False
        needed = self._minimum.of(disk.total) + int((written + converter.pending_bytes) * max(self._ratio, 0.05) * 1.5)
        self._room = disk.free - needed
        if not self._paused and self._room < _PAUSE_STEPS * self._step:
            self._pause(
                f"only {format_size(disk.free)} free on the disk of {self._trace}, "
                f"{format_size(needed)} are kept (--min-free, and room to finish files)",
                now_us,
            )
        elif self._paused and not converter.busy and self._room > _RESUME_STEPS * self._step:
            self._paused = False
        if converter.failed and not converter.busy and now_us - self._retried_us > _RETRY_US:
            self._retried_us = now_us
            converter.retry()
        return not self._paused

    def failed(self, problem: OSError, now_us: int) -> None:
        """A write failed: pause until `check` finds room again."""
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else os.strerror(problem.errno) if problem.errno else str(problem)
        self._pause(f"cannot write to {self._trace} ({what})", now_us)

    def _pause(self, reason: str, now_us: int) -> None:
        self._paused, self._told = True, False
        if self._gap is None:
            self._gap = Gap(now_us, reason)

    def just_paused(self) -> bool:
        """True once after each pause began."""
        first, self._told = not self._told, True
        return first

    def take_gap(self) -> Gap | None:
        """The gap that has just ended (or ends with the capture), once."""
        gap, self._gap = self._gap, None
        return gap

    def should_rotate(self, spools: OpenSpools, converter: Converter) -> bool:
        """Whether the spools are large enough for a file, or too large for the room that is left."""
        if spools.largest * self._ratio >= self._rotate_size:
            return True
        return spools.bytes > max(self._room, _WORTH_ROTATING) and not converter.busy and not self._paused

    def learn(self, done: Converted) -> None:
        """Take the ratio of Parquet to spool bytes from a finished file."""
        if done.file and not done.existed and done.spool_bytes >= _TEACHING_BYTES:
            self._ratio = done.file.bytes / done.spool_bytes


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists: someone may have removed the trace under the recorder."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
