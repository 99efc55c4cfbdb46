"""The kernel's clock against the wall's."""

from __future__ import annotations

import time

from recorder.clock import boot_ns


class UtcClock:
    """CLOCK_REALTIME minus CLOCK_BOOTTIME in nanoseconds, without the jitter of reading two clocks.

    The kernel's stamps are CLOCK_BOOTTIME, which goes on during suspend and never steps. The offset changes only
    when the wall clock was stepped or slewed by more than `tolerance_ns`: one row's end is the next one's start.
    """

    def __init__(self, tolerance_ns: int = 100_000) -> None:
        self._tolerance_ns = tolerance_ns
        self._offset = self._measure()

    def offset_ns(self) -> int:
        now = self._measure()
        if abs(now - self._offset) > self._tolerance_ns:
            self._offset = now
        return self._offset

    @staticmethod
    def _measure() -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - boot_ns()
