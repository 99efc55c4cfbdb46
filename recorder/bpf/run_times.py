"""How long the programs run in others' context: measured a tenth of the time, for a moment each, and scaled.

The moments begin at random, so that no load that comes in turns falls between them; over a budget's window of some
seconds there are several.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

from recorder.bpf import syscalls

WINDOW_SECONDS, PAUSE_SECONDS = 0.1, 0.9


class RunTimes:
    """`switch` lets the programs time themselves or not; `read` gives the nanoseconds that they have counted in all."""

    def __init__(self, switch: Callable[[bool], None], read: Callable[[], int]) -> None:
        self._switch, self._read = switch, read
        self._random = random.Random()
        self._counted = 0
        self._taken_ns = 0.0
        # Until when all is accounted for, since when they time themselves (None: they do not), when they shall next.
        self._until = self._next = time.monotonic()
        self._begun: float | None = None

    def step(self) -> None:
        """Begin or end a moment when it is time to; call it whenever `until_step` is over."""
        now = time.monotonic()
        if self._begun is None:
            if now >= self._next:
                self._switch(True)
                self._begun = time.monotonic()
        elif now - self._begun >= WINDOW_SECONDS:
            self._end(now)

    def until_step(self) -> float:
        """Seconds until the next step is due."""
        due = self._next if self._begun is None else self._begun + WINDOW_SECONDS
        return max(due - time.monotonic(), 0.0)

    def take(self) -> int:
        """Microseconds that they have run since the last call, as far as moments have ended."""
        taken, self._taken_ns = int(self._taken_ns // 1000), self._taken_ns % 1000
        return taken

    def stop(self) -> None:
        """The last moment ends now."""
        if self._begun is not None:
            self._end(time.monotonic())

    def _end(self, now: float) -> None:
        assert self._begun is not None
        self._switch(False)
        counted = self._read()
        self._taken_ns += (counted - self._counted) * (now - self._until) / max(now - self._begun, 1e-6)
        self._counted, self._until, self._begun = counted, now, None
        self._next = now + PAUSE_SECONDS * self._random.uniform(0.5, 1.5)


class KernelTimes:
    """What the kernel counts of programs in the moments in which it times them (see `RunTimes`), not what it counts
    for others meanwhile.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._counted = self._before = 0
        self._statistics: int | None = None

    def switch(self, timing: bool) -> None:
        """Raises `OSError` when this process may not."""
        if timing:
            self._statistics = syscalls.keep_run_times()
            self._before = self._total()
        elif self._statistics is not None:
            self._counted += self._total() - self._before
            os.close(self._statistics)
            self._statistics = None

    def read(self) -> int:
        return self._counted
