"""When to look for connections whose establishment the kernel has skipped (see `tcp_state` in tcp.bpf.c).

Such a connection shows when it closes: it is of those that are recorded, and is not in the table. Where every
connection is recorded that is told at once. Where a filter or a sample leaves connections out, each of these is not in
the table either and would have to be judged again: there it is done only on hosts that do skip, from the first time on.
"""

from __future__ import annotations

from collections.abc import Callable

from recorder.sources.ebpf.records import CONTROL_SKIPPED, CONTROL_UNSEEN


class Skips:
    """Tells the programs what to look for.

    `control(place, value)` sets a word of theirs; `skipped()` counts how often the kernel has skipped the program of
    TCP's changes of state; `filtered`: a filter leaves connections out.
    """

    def __init__(self, control: Callable[[int, int], None], skipped: Callable[[], int], filtered: bool) -> None:
        self._control = control
        self._skipped = skipped
        self._filtered = filtered
        self._interval: int | None = None
        self._looking = False
        self._searched = 0
        self._lost = 0

    def sample(self, now: int, largest: int) -> None:
        """Of 1 in `now` connections; the smallest sample so far was 1 in `largest`.

        What was open before the recording is known by the time of the first call.
        """
        self._interval = largest
        self._looking = (now == 1 and not self._filtered) or self._skipped() > 0
        self._control(CONTROL_UNSEEN, largest if self._looking else 0)

    def notice(self) -> None:
        """Begin to look when the kernel has skipped for the first time."""
        if self._looking or self._interval is None:
            return
        skipped = self._skipped()
        if skipped:
            self._lost += skipped
            self._looking = True
            self._control(CONTROL_UNSEEN, self._interval)

    def before_search(self) -> None:
        """All open files are about to be looked through: also for such connections when there were skips since."""
        skipped = self._skipped()
        self._control(CONTROL_SKIPPED, skipped > self._searched)
        self._searched = skipped

    def take_lost(self) -> int:
        """Skips since the last call that came before anything was looked for: each may have hidden a connection."""
        lost, self._lost = self._lost, 0
        return lost
