"""The wall clock, and whether it was set.

It is compared with the time since boot, which goes on while the host is suspended: waking up is no step. A leap second
that the kernel inserts repeats a second: a step of -1 s. One that a time server smears over a day is slewing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# A wall clock that moves more than this between two looks was set; what is less is slewing, which is followed.
STEP_SECONDS = 0.5
# Between two looks at one clock the other is read; a process that had to wait longer than this in between looks again.
_APART_SECONDS = 0.05
_LOOKS = 20


def _namespace_offset_ns() -> int:
    """How much further CLOCK_BOOTTIME is in this process's time namespace than in the kernel (time_namespaces(7))."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/timens_offsets").read_text().splitlines():
            name, seconds, nanoseconds = line.split()
            if name == "boottime":
                return int(seconds) * 10**9 + int(nanoseconds)
    return 0


NAMESPACE_OFFSET_NS = _namespace_offset_ns()


def boot_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME as the kernel stamps what eBPF programs see, also from a time namespace."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - NAMESPACE_OFFSET_NS


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class WallClock:
    """Seconds since 1970, as `wall` has them; `boot` counts seconds and is never set. Any thread may ask."""

    def __init__(self, wall: Callable[[], float] = time.time, boot: Callable[[], float] = _since_boot) -> None:
        self._wall, self._boot = wall, boot
        self._offset = self._apart()
        self._forward = 0.0

    def now(self) -> float:
        return self._wall()

    def step(self) -> float:
        """By how many seconds the clock was set since the last call; 0 when it was not. To be called often."""
        offset = self._apart()
        moved = offset - self._offset
        stepped = moved if abs(moved) > STEP_SECONDS else 0.0
        self._forward += stepped
        self._offset = offset
        return stepped

    def _apart(self) -> float:
        """Wall clock minus time since boot: both at one moment, also on a host that lets a process wait."""
        found: list[tuple[float, float]] = []
        for _ in range(_LOOKS):
            before = self._boot()
            wall = self._wall()
            found.append((self._boot() - before, wall - before))
            if found[-1][0] < _APART_SECONDS:
                break
        return min(found)[1]

    def for_age(self) -> float:
        """The time to judge the age of files by: no step forward since the start makes a file older.

        Nobody knows whether the clock before or after it was right, and a deleted file does not come back. A step that
        `step` has not seen yet does not count either.
        """
        return self._boot() + self._offset - max(self._forward, 0.0)
