"""Writing to somebody who may not be reading: a recorder never waits for the reader of its progress.

A pipe that nobody empties and a terminal that was stopped (Ctrl-S) would block a writer for good, and with it the
recording.
"""

from __future__ import annotations

import collections
import os
import select
import time
from typing import TextIO

# What is kept for a reader who comes back; the oldest goes first.
_KEPT = 1000


class Outlet:
    """Lines to a stream, as far as it takes them now."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: collections.deque[str] = collections.deque(maxlen=_KEPT)
        try:
            self._poll: select.poll | None = select.poll()
            self._poll.register(stream.fileno(), select.POLLOUT)
        except (OSError, ValueError):  # not a file of the system's
            self._poll = None

    def offer(self, text: str) -> None:
        """Write it if that can be done at once: what is out of date in a second need not be kept."""
        if self._empty() and self._takes_more():
            self._write(text)

    def write(self, text: str) -> None:
        """Write it now or, before anything else, as soon as the stream takes it."""
        self._waiting.append(text)
        self._empty()

    def finish(self, timeout: float = 1.0) -> None:
        """The last chance of what still waits: up to `timeout` seconds."""
        end = time.monotonic() + timeout
        while not self._empty() and time.monotonic() < end:
            time.sleep(0.01)

    def _empty(self) -> bool:
        while self._waiting and self._takes_more():
            self._write(self._waiting.popleft())
        return not self._waiting

    def _takes_more(self) -> bool:
        # Whether there is room for at least a page, which is more than any line has (pipe(7), POLLOUT).
        if self._poll is None:
            return True
        return any(event & (select.POLLOUT | select.POLLERR | select.POLLHUP) for _, event in self._poll.poll(0))

    def _write(self, text: str) -> None:
        try:
            if self._poll is None:
                self._stream.write(text)
                self._stream.flush()
            else:  # past the stream's buffer, which would be written again at the end, to nobody
                os.write(self._stream.fileno(), text.encode(errors="replace"))
        except (OSError, ValueError):
            pass  # the terminal or log has gone; the recording goes on
