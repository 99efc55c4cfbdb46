"""How the recording loop sleeps: until a time is up, a source has something that cannot wait, or a signal arrives."""

from __future__ import annotations

import os
import select
from collections.abc import Iterable


class Waiter:
    """Waits on descriptors. `close` it in the end."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._calls, select.EPOLLIN)

    def watch(self, descriptors: Iterable[int]) -> None:
        """Whenever one of these becomes readable anew, whoever waits goes on (edge-triggered: what is left unread there
        does not count, nor what has been read since)."""
        for descriptor in descriptors:
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLET)

    def call(self) -> None:
        """End the waiting, now or the next time; for signal handlers, after which Python would go on waiting."""
        os.eventfd_write(self._calls, 1)

    def wait(self, seconds: float) -> None:
        """Sleep, at most so long."""
        for descriptor, _ in self._epoll.poll(max(seconds, 0.0)):
            if descriptor == self._calls:
                os.eventfd_read(self._calls)

    def close(self) -> None:
        os.close(self._calls)
        self._epoll.close()
