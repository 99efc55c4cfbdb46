"""Pipes for splice(2): lent to sessions that move much, taken back when they are quiet, bounded in number."""

from __future__ import annotations

import contextlib
import fcntl
import os

from recorder.sources.tproxy.session import End

PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031


class Pipes:
    """At most `limit` pipes; without one a session goes on with plain reads."""

    def __init__(self, limit: int) -> None:
        self._spare: list[tuple[int, int]] = []
        self._left = limit

    def lend(self, source: End, sink: End) -> bool:
        """Give the source a pipe towards the sink; False when there is none."""
        if self._spare:
            source.pipe = self._spare.pop()
        elif self._left:
            try:
                source.pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
            self._left -= 1
            with contextlib.suppress(OSError):
                fcntl.fcntl(source.pipe[1], F_SETPIPE_SZ, PIPE_SIZE)
        else:
            return False
        source.steady = False
        # splice(2) looks at the descriptor's own flag, not at SPLICE_F_NONBLOCK alone.
        os.set_blocking(source.sock.fileno(), False)
        os.set_blocking(sink.sock.fileno(), False)
        return True

    def give_back(self, end: End) -> None:
        """Back to plain reads: for a session that has become quiet, or has ended."""
        if end.pipe is None:
            return
        if end.piped:  # what is left in it must not reach another session
            os.close(end.pipe[0])
            os.close(end.pipe[1])
            self._left += 1
        else:
            self._spare.append(end.pipe)
        end.pipe, end.piped, end.runs = None, 0, 0
        end.steady = not end.urgent
