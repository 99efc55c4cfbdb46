"""The guard: the process that owns the rules, and takes them away when the proxy ends, dies or hangs.

`python -m recorder.sources.tproxy.guard`, started by the recorder only. Its standard input is a JSON object:
the plan and its end of a socket. From the recorder it takes one order a line and answers each with a line:

    install     the table (choosing nothing yet), rules and routes; all or nothing
    worker P    process P is one more worker; with the line comes the pipe that it beats into
    activate    new sessions are chosen
    bypass      they are counted and pass by; sessions that the proxy has go on
    deactivate  they are no longer looked at
    remove      everything is taken away; the guard ends

Every `TICK` it looks whether the recorder and the workers run, and listens to the workers' beats. A recorder that is
gone or stopped ends the proxy: nothing more is chosen at once, the workers are killed (their sockets are closed by the
kernel, and their peers told), and a moment later table, rules and routes are gone. A worker that is stopped, or says
nothing for `HUNG_TICKS`, is killed: the recorder replaces it. If the guard itself dies, the kernel takes the table
away, and the recorder the routes; the recorder kills one that is stopped or has nothing to say. While no worker runs,
or one is full, or silent for `SILENT_TICKS` (a busy machine can do that), new sessions are counted and pass by.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass

from recorder.capabilities import keep_only
from recorder.sources.tproxy.nftables import Nftables, NftablesError
from recorder.sources.tproxy.plan import TABLE, Plan, from_json, run_ip
from recorder.sources.tproxy.processes import KEPT, stopped

TICK = 0.05
SILENT_TICKS = 15
HUNG_TICKS = 80
# So long the kernel may still say goodbye to the peers of sockets that were closed for a dead worker.
FAREWELL = 0.15
COUNTER_TICKS = 20
FULL = b"#"


@dataclass
class Watched:
    """A worker as the guard sees it. `silent`: ticks since its last beat; -1: has not begun to beat."""

    pid: int
    handle: int
    silent: int = -1
    full: bool = False

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)


class Guard:
    """Owner of the table, listener of beats: see the module."""

    def __init__(self, plan: Plan, control: socket.socket) -> None:
        self._plan = plan
        self._control = control
        self._poll = select.poll()
        self._workers: dict[int, Watched] = {}  # by the descriptor of its beats
        self._recorder = os.getppid()
        self._nftables: Nftables | None = None
        self._wanted = "deactivate"
        self._state = "deactivate"  # of the table: what was last applied
        self._rest = b""
        self._done = False

    def run(self) -> None:
        """Serve until everything is taken away."""
        self._poll.register(self._control, select.POLLIN)
        ticks = 0
        next_tick = time.monotonic() + TICK
        while not self._done:
            for descriptor, _ in self._poll.poll(max(0.0, next_tick - time.monotonic()) * 1000):
                if descriptor == self._control.fileno():
                    self._orders()
                elif descriptor in self._workers and not self._done:
                    self._beat(descriptor)
            if time.monotonic() >= next_tick:
                # From now, not from when it was due: a guard that could not run must not think that others are silent.
                next_tick = time.monotonic() + TICK
                ticks += 1
                self._tick(ticks)

    def _tick(self, ticks: int) -> None:
        if stopped(self._recorder):
            self._fail("the recorder was stopped")
        for worker in self._workers.values():
            worker.silent += worker.silent >= 0
            if worker.silent > HUNG_TICKS or stopped(worker.pid):
                worker.kill()
        self._settle()
        if not self._done and self._nftables and ticks % COUNTER_TICKS == 0:
            self._say(f"counted {self._counter('taken')} {self._counter('passed')}")

    def _beat(self, descriptor: int) -> None:
        try:
            beats = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        if beats:
            self._workers[descriptor].silent = 0
            self._workers[descriptor].full = beats[-1:] == FULL
        else:
            self._poll.unregister(descriptor)
            os.close(self._workers.pop(descriptor).handle)
            os.close(descriptor)
        self._settle()

    def _orders(self) -> None:
        try:
            got, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        except ConnectionResetError:  # it was killed before it had read all that was said to it
            got, descriptors = b"", []
        if not got:
            self._fail("the recorder has ended")
            return
        *lines, self._rest = (self._rest + got).split(b"\n")
        for line in lines:
            try:
                self._order(line.decode(), descriptors)
            except (NftablesError, OSError) as problem:
                self._take_away()
                self._say(f"error {problem}")
            else:
                self._say("ok")

    def _order(self, line: str, descriptors: list[int]) -> None:
        word, *rest = line.split()
        if word == "worker":
            (pid,), (beats,) = map(int, rest), descriptors
            self._workers[beats] = Watched(pid, os.pidfd_open(pid))
            self._poll.register(beats, select.POLLIN)
        elif word == "install":
            self._install()
        elif word == "remove":
            self._take_away()
            self._done = True
        else:
            self._wanted = word
            self._settle()

    # -- what it does

    def _install(self) -> None:
        self._nftables = Nftables()
        self._nftables.run(self._plan.install())
        run_ip([*self._plan.left_behind, *self._plan.routes()])

    def _settle(self) -> None:
        """Choose new sessions when that is wanted and there are workers with room that let themselves be heard."""
        workers = self._workers.values()
        able = bool(workers) and not any(worker.full or worker.silent >= SILENT_TICKS for worker in workers)
        state = "bypass" if self._wanted == "activate" and not able else self._wanted
        if state != self._state and self._nftables and not self._done:
            self._apply(state)

    def _apply(self, state: str) -> None:
        assert self._nftables is not None
        plan = self._plan
        self._nftables.run({"activate": plan.activate, "bypass": plan.bypass, "deactivate": plan.deactivate}[state]())
        self._state = state

    def _counter(self, name: str) -> int:
        """Packets so far that a counter of the table has seen."""
        try:
            listed = json.loads(self._nftables.run(f"list counter inet {TABLE} {name}"))  # type: ignore[union-attr]
        except (NftablesError, ValueError):
            return 0
        return sum(one["counter"]["packets"] for one in listed["nftables"] if "counter" in one)

    def _fail(self, reason: str) -> None:
        if self._done:
            return
        self._done = True
        if self._nftables:
            with contextlib.suppress(NftablesError):
                self._apply("deactivate")
        for worker in self._workers.values():
            worker.kill()
        self._say(f"failed {reason}")
        time.sleep(FAREWELL)
        self._take_away()

    def _take_away(self) -> None:
        if self._nftables:
            with contextlib.suppress(NftablesError):
                self._nftables.run(self._plan.remove())
            self._nftables = None
        with contextlib.suppress(OSError):
            run_ip(self._plan.unroute())

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(line.replace("\n", " ").encode() + b"\n")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the recorder says when, or its end does
    given = json.load(sys.stdin)
    keep_only(KEPT)
    guard = Guard(from_json(given["plan"]), socket.socket(fileno=given["control"]))
    guard.run()


if __name__ == "__main__":
    main()
