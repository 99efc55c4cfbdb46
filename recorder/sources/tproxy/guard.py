"""The guard: the process that owns the rules, and takes them away when the proxy ends, dies or hangs.

`python -m recorder.sources.tproxy.guard`, started by the recorder only. Its standard input is a JSON object:
the plan and the descriptors. From the recorder it takes one word a line and answers each with a line:

    install     the table (choosing nothing yet), rules and routes; all or nothing
    workers P.. the workers' process ids
    activate    new sessions are chosen
    deactivate  no longer; sessions that the proxy has go on
    remove      everything is taken away; the guard ends

Every `TICK` it looks whether the recorder and the workers run, and listens to the workers' beats. One that is gone or
stopped, or a worker that says nothing for `HUNG_TICKS`, ends the proxy: nothing more is chosen at once, the workers
are killed (their sockets are closed by the kernel, and their peers told), and a moment later table, rules and
routes are gone. If the guard itself dies, the kernel takes the table away, and the recorder the routes. While a
worker is full, or silent for `SILENT_TICKS` (a busy machine can do that), new sessions are counted and pass by.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time

from recorder.sources.tproxy.nftables import Nftables, NftablesError
from recorder.sources.tproxy.plan import TABLE, Plan, from_json, run_ip

TICK = 0.05
SILENT_TICKS = 15
HUNG_TICKS = 80
# So long the kernel may still say goodbye to the peers of sockets that were closed for a dead worker.
FAREWELL = 0.15
COUNTER_TICKS = 20
FULL = b"#"


class Guard:
    """Owner of the table, listener of beats: see the module."""

    def __init__(self, plan: Plan, control: int, beats: dict[int, str]) -> None:
        self._plan = plan
        self._control = control
        self._beats = beats  # descriptor -> whose
        self._silent = dict.fromkeys(beats, -1)  # ticks; -1: has not begun to beat
        self._full: set[int] = set()
        self._nftables: Nftables | None = None
        self._wanted = False
        self._state = ""  # of the table: what was last applied
        self._workers: list[int] = []  # pidfds
        self._family = {os.getppid(): "the recorder"}  # process ids
        self._rest = b""
        self._done = False

    def run(self) -> None:
        """Serve until everything is taken away."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        for descriptor in self._beats:
            poll.register(descriptor, select.POLLIN)
        ticks = 0
        next_tick = time.monotonic() + TICK
        while not self._done:
            for descriptor, _ in poll.poll(max(0.0, next_tick - time.monotonic()) * 1000):
                if descriptor == self._control:
                    self._orders()
                elif descriptor in self._beats and not self._done:
                    self._beat(descriptor, poll)
            if time.monotonic() >= next_tick:
                # From now, not from when it was due: a guard that could not run must not think that others are silent.
                next_tick = time.monotonic() + TICK
                ticks += 1
                self._tick(ticks)

    def _tick(self, ticks: int) -> None:
        for pid, whose in self._family.items():
            if _stopped(pid) and not self._done:
                self._fail(f"{whose} was stopped")
        for descriptor, silent in self._silent.items():
            if silent >= 0 and not self._done:
                self._silent[descriptor] = silent + 1
                if silent >= HUNG_TICKS:
                    self._fail(f"{self._beats[descriptor]} did not respond for {HUNG_TICKS * TICK:.0f} s")
                elif silent == SILENT_TICKS:
                    self._settle()
        if not self._done and self._state and ticks % COUNTER_TICKS == 0:
            self._say(f"counted {self._counter('taken')} {self._counter('passed')}")

    def _beat(self, descriptor: int, poll: select.poll) -> None:
        try:
            beats = os.read(descriptor, 4096)
        except BlockingIOError:
            return
        if not beats:
            poll.unregister(descriptor)
            whose = self._beats.pop(descriptor)
            self._silent.pop(descriptor)
            self._fail(f"{whose} has ended")
            return
        self._silent[descriptor] = 0
        if beats[-1:] == FULL:
            self._full.add(descriptor)
        else:
            self._full.discard(descriptor)
        self._settle()

    def _orders(self) -> None:
        got = os.read(self._control, 4096)
        if not got:
            self._fail("the recorder has ended")
            return
        *lines, self._rest = (self._rest + got).split(b"\n")
        for line in lines:
            word, *rest = line.decode().split()
            try:
                if word == "workers":
                    self._workers = [os.pidfd_open(int(pid)) for pid in rest]
                    self._family |= {int(pid): f"worker {number}" for number, pid in enumerate(rest, 1)}
                else:
                    {"install": self._install, "activate": self._activate, "deactivate": self._deactivate}.get(
                        word, self._remove
                    )()
            except (NftablesError, OSError) as problem:
                self._take_away()
                self._say(f"error {problem}")
            else:
                self._say("ok")

    # -- what it does

    def _install(self) -> None:
        self._nftables = Nftables()
        self._nftables.run(self._plan.install())
        run_ip([*self._plan.left_behind, *self._plan.routes()])

    def _activate(self) -> None:
        self._wanted = True
        self._settle()

    def _deactivate(self) -> None:
        self._wanted = False
        self._settle()

    def _settle(self) -> None:
        """Choose new sessions when that is wanted and every worker has room and lets itself be heard."""
        able = not self._full and max(self._silent.values(), default=0) < SILENT_TICKS
        state = "" if not self._wanted else "activate" if able else "bypass"
        if state != self._state and self._nftables:
            plan = self._plan
            self._nftables.run({"": plan.deactivate, "activate": plan.activate, "bypass": plan.bypass}[state]())
            self._state = state

    def _remove(self) -> None:
        self._take_away()
        self._done = True

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
        with contextlib.suppress(NftablesError):
            self._deactivate()
        for worker in self._workers:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(worker, signal.SIGKILL)
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
            os.write(self._control, line.replace("\n", " ").encode() + b"\n")


def _stopped(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False  # gone: its pipe says so


def main() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the recorder says when, or its end does
    given = json.load(sys.stdin)
    guard = Guard(
        from_json(given["plan"]),
        given["control"],
        {int(descriptor): whose for descriptor, whose in given["beats"].items()},
    )
    guard.run()


if __name__ == "__main__":
    main()
