"""A worker process: the relay on one core. `python -m recorder.sources.tproxy.worker`, started by the recorder only.

Its standard input is a JSON object (`Assignment`); the descriptors that it names are inherited. It beats once
every `BEAT` seconds into the guard's pipe, and ends when the recorder or the guard has gone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import resource
import signal
import socket
import sys
from dataclasses import dataclass
from time import monotonic, monotonic_ns

from recorder.capabilities import keep_only
from recorder.sources.tproxy import dial
from recorder.sources.tproxy.journal import Journal
from recorder.sources.tproxy.processes import KEPT
from recorder.sources.tproxy.relay import Options, Relay
from recorder.sources.tproxy.session import Session

PR_SET_NAME = 15
PROCESS_NAME = b"netrec-tproxy"
BEAT = 0.1
FLUSH = 0.2
SWEEP_CHUNK = 256
ALIVE, FULL = b"+", b"#"
DRAIN, END = b"d", b"e"


@dataclass
class Assignment:
    """What the recorder tells a worker. Descriptors are inherited; `mode` is how it dials (`MODES`).

    `shared` is memory that the recorder sees too: in it stands the flow id of the last session that was accepted, so
    that it is known how many a worker had when it died.
    """

    number: int
    listeners: list[tuple[int, bool]]
    journal: int
    beat: int
    control: int
    shared: int
    mode: str
    mark: int
    session_limit: int
    pipe_limit: int
    active_timeout: float
    keep_query: bool


MODES = {"client": dial.as_client, "self": dial.as_self, "host": dial.as_host}
# Flow ids of workers lie above those of any other source of the same capture: 1 << 62, the worker, a counter.
FLOW_ID_BASE = 1 << 62


def first_flow_id(worker: int) -> int:
    """The id before that of a worker's first session."""
    return FLOW_ID_BASE + (worker << 40)


class Worker:
    """Ties the relay to the clock: beats, flushes, interval rows, orders from the recorder."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.journal = Journal(assignment.journal)
        self.relay = Relay(
            Options(
                MODES[assignment.mode](assignment.mark),
                memoryview(mmap.mmap(assignment.shared, mmap.PAGESIZE)).cast("q"),
                assignment.session_limit,
                assignment.pipe_limit,
                assignment.keep_query,
            ),
            self.journal,
        )
        for descriptor, ipv6 in assignment.listeners:
            listener = dial.RawSocket(fileno=descriptor)
            listener.setblocking(False)
            listener.listen(dial.BACKLOG)  # not before: nobody waits for a worker that does not run yet
            self.relay.listen(listener, ipv6)
        self.relay.watch(assignment.control, self._order)
        self._ending = False
        self._sweep: list[Session] = []

    def run(self) -> None:
        """Relay until told to end, or until nobody is left to work for."""
        relay = self.relay
        gc.disable()  # sessions undo their circles themselves; looking through thousands of idle ones would cost
        now = monotonic()
        next_beat, next_flush = now, now + FLUSH
        next_sweep, next_chunk = now + self.assignment.active_timeout, now
        while not self._ending:
            relay.turn(max(0.0, next_beat - now))
            now = monotonic()
            if now >= next_beat:
                next_beat = now + BEAT
                self._beat()
                if now >= next_sweep:
                    next_sweep = now + self.assignment.active_timeout
                    self._sweep = relay.sessions()
            if self._sweep and now >= next_chunk:
                next_chunk = now + 0.01
                self._interval_rows()
            if now >= next_flush:
                next_flush = now + FLUSH
                if not self.journal.flush(self._counters()):
                    break  # nobody records any more: end, and the guard takes the rules away
        relay.end_all()
        self._last_words()

    def _beat(self) -> None:
        self.relay.resume()
        try:
            os.write(self.assignment.beat, FULL if self.relay.full else ALIVE)
        except BlockingIOError:
            pass  # the guard is behind: it has beats enough to read
        except OSError:
            self._ending = True  # without a guard nobody would take the rules away: the recorder does, now

    def _order(self) -> None:
        order = os.read(self.assignment.control, 16)
        if not order or END in order:
            self._ending = True
        elif DRAIN in order:
            self.relay.no_more()
            self.journal.flush(self._counters())

    def _interval_rows(self) -> None:
        now = monotonic_ns()
        # A session that has just begun, or just had its row, waits for the next round.
        ripe = now - int(self.assignment.active_timeout * 5e8)
        for session in self._sweep[-SWEEP_CHUNK:]:
            if session.reported <= ripe:
                self.relay.report(session, now)
        del self._sweep[-SWEEP_CHUNK:]

    def _counters(self) -> dict[str, int]:
        relay = self.relay
        counters = {
            "open": relay.open,
            "limit": self.assignment.session_limit,
            "refused": relay.refused,
        }
        relay.refused = 0
        return counters

    def _last_words(self) -> None:
        os.set_blocking(self.assignment.journal, True)
        self.journal.flush(self._counters())


def _name_process() -> None:
    """What `ps`, and the eBPF source, call this process."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, PROCESS_NAME, 0, 0, 0)


def main() -> None:
    _name_process()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the recorder tells its workers when to end
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    given = json.load(sys.stdin)
    given["listeners"] = [tuple(one) for one in given["listeners"]]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socket.setdefaulttimeout(None)
    keep_only(KEPT)
    Worker(Assignment(**given)).run()


if __name__ == "__main__":
    main()
