"""The workers as the recorder sees them: started, listened to, replaced when they die, and ended in order."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from netrec.errors import CannotRecordError
from recorder.sources.tproxy import dial
from recorder.sources.tproxy.guard_client import GuardClient
from recorder.sources.tproxy.plan import Plan
from recorder.sources.tproxy.processes import ended, spawn
from recorder.sources.tproxy.rows import WorkerStream
from recorder.sources.tproxy.worker import DRAIN, END, Assignment, first_flow_id

PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
START_PATIENCE = 20.0
# So many workers may die within the window and be replaced at once. What kills more of them may be the traffic itself:
# then it passes by for a while, each time for twice as long.
DEATHS = 3
DEATHS_WINDOW = 60.0
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 600.0
_READ = 1 << 20


@dataclass
class Member:
    """One worker: its process, its pipes, and what it has said. `last_flow_id` is memory that both see."""

    number: int
    process: subprocess.Popen[bytes]
    journal: int
    orders: int
    stream: WorkerStream
    last_flow_id: memoryview
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Sessions so far."""
        return int(self.last_flow_id[0]) - first_flow_id(self.number)

    def release(self) -> None:
        os.close(self.orders)
        os.close(self.journal)


class Crew:
    """All workers of a recording. `lost` counts sessions of which the row will never come."""

    def __init__(
        self, plan: Plan, guard: GuardClient, assign: dict[str, Any], stream: Callable[[], WorkerStream]
    ) -> None:
        """`assign`: fields of the workers' `Assignment` that are the same for all; `stream` makes one for each."""
        self._plan = plan
        self._guard = guard
        self._assign = assign
        self._stream = stream
        self._members: list[Member] = []
        self._departed: list[WorkerStream] = []  # of the dead: their last rows
        self._made = 0
        self._deaths: list[float] = []
        self._pause = FIRST_PAUSE
        self._paused_until = 0.0  # while not 0, all sessions pass by
        self._resumed = 0.0
        self._accepted = 0  # by those that are dead
        self.lost = 0
        self.notes: list[str] = []
        self.every_pid = {os.getpid()}  # whose sockets these are: the listeners' first owner is this process

    @property
    def pids(self) -> list[int]:
        """Of those that are at work."""
        return [member.process.pid for member in self._members]

    @property
    def accepted(self) -> int:
        """Sessions so far, of all that ever worked."""
        return self._accepted + sum(member.accepted for member in self._members)

    def gauge(self, name: str) -> int:
        """The sum over the workers of what they said last."""
        return sum(member.counters.get(name, 0) for member in self._members)

    def start(self) -> None:
        """All of them; returns when each has spoken, so that its loop runs. Raises `CannotRecordError`."""
        for _ in range(self._plan.workers):
            self._add()
        deadline = time.monotonic() + START_PATIENCE
        while not all(member.counters for member in self._members):
            self.receive()
            if any(member.process.poll() is not None for member in self._members) or time.monotonic() > deadline:
                raise CannotRecordError("a worker of the proxy did not start", "--debug shows its error above")
            time.sleep(0.01)

    def _add(self) -> None:
        number = self._made
        self._made += 1
        given: list[int] = []  # the child's ends, closed here when it has them
        kept: list[int] = []
        try:
            listeners = _listeners(self._plan)
            given += [descriptor for descriptor, _ in listeners]
            journal, journal_in = os.pipe()
            beat, beat_in = os.pipe()
            control, orders = os.pipe()
            shared = os.memfd_create("netrec-tproxy")
            given += [journal_in, beat_in, beat, control, shared]
            kept += [journal, orders]
            for pipe in (journal_in, beat_in, beat, journal):
                os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(journal_in, F_SETPIPE_SZ, PIPE_SIZE)
            os.truncate(shared, mmap.PAGESIZE)
            last_flow_id = memoryview(mmap.mmap(shared, mmap.PAGESIZE)).cast("q")
            last_flow_id[0] = first_flow_id(number)
            assignment = Assignment(
                number=number,
                listeners=listeners,
                journal=journal_in,
                beat=beat_in,
                control=control,
                shared=shared,
                **self._assign,
            )
            passed = [journal_in, beat_in, control, shared, *(descriptor for descriptor, _ in listeners)]
            process = spawn("worker", asdict(assignment), passed)
            self._members.append(Member(number, process, journal, orders, self._stream(), last_flow_id))
            self.every_pid.add(process.pid)
            kept.clear()
            self._guard.order(f"worker {process.pid}", [beat])
        finally:
            for descriptor in (*given, *kept):
                os.close(descriptor)

    # -- running

    def tend(self) -> bool:
        """Take what the workers have written, and replace those that have died; True when there may be more at once.

        Raises `CannotRecordError` when the guard has gone, or a port is taken by now.
        """
        more, dead = self.receive()
        now = time.monotonic()
        for member in dead:
            self._bury(member, now)
        if len(self._deaths) > DEATHS:
            self._let_pass(now)
        if now >= self._paused_until:
            for _ in range(self._plan.workers - len(self._members)):
                self._add()
            if self._paused_until and all(member.counters for member in self._members):
                self._guard.order("activate")
                self._paused_until, self._resumed = 0.0, now
                self.notes.append("sessions are proxied again")
        return more

    def _let_pass(self, now: float) -> None:
        self._guard.order("bypass")
        if not self._paused_until and now - self._resumed > LONGEST_PAUSE:
            self._pause = FIRST_PAUSE
        self._paused_until = now + self._pause
        self.notes.append(
            f"{len(self._deaths)} workers died within {DEATHS_WINDOW:.0f} s: sessions pass by for {self._pause:.0f} s"
        )
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._deaths.clear()

    def receive(self) -> tuple[bool, list[Member]]:
        """Take what has been written: whether there may be more at once, and who has died."""
        more, dead = False, []
        for member in self._members:
            try:
                data = os.read(member.journal, _READ)
            except BlockingIOError:
                continue
            if data:
                more = more or len(data) == _READ
                self._take(member, data)
            else:
                dead.append(member)
        return more, dead

    def _take(self, member: Member, data: bytes) -> None:
        for counters in member.stream.feed(data):
            member.counters = counters
            self.lost += counters["lost"]

    def _bury(self, member: Member, now: float) -> None:
        """Its sessions ended with it, and what it had not yet handed over is gone: both are counted."""
        self._members.remove(member)
        self._departed.append(member.stream)
        self._accepted += member.accepted
        lost = member.accepted - member.stream.finished
        self.lost += lost
        how = ended(member.process, 0.5)
        member.release()
        self._deaths = [one for one in self._deaths if now - one < DEATHS_WINDOW] + [now]
        cause = f"killed by signal {-how}" if how < 0 else f"exit code {how}"
        self.notes.append(f"worker {member.number + 1} died ({cause}) with {lost} sessions")

    def batches(self) -> Iterator[Any]:
        """Record batches of flows since the last call."""
        for stream in (*self._departed, *(member.stream for member in self._members)):
            yield from stream.take()
        self._departed.clear()

    # -- the end

    def drain(self, patience: float) -> None:
        """No new sessions; up to `patience` seconds for those that are open."""
        deadline = time.monotonic() + patience
        for member in self._members:
            member.counters = {}  # what they say from now on counts
        self._tell(DRAIN)
        while time.monotonic() < deadline:
            _, dead = self.receive()
            for member in dead:
                self._bury(member, time.monotonic())
            if all(member.counters and not member.counters["open"] for member in self._members):
                return
            time.sleep(0.02)

    def finish(self) -> None:
        """End them all, and take their last rows."""
        self._tell(END)
        waiting = {member.journal: member for member in self._members}
        deadline = time.monotonic() + 10
        while waiting and time.monotonic() < deadline:
            ready, _, _ = select.select(list(waiting), [], [], 1.0)
            for journal in ready:
                data = os.read(journal, _READ)
                if data:
                    self._take(waiting[journal], data)
                else:
                    del waiting[journal]

    def release(self) -> None:
        """End what still runs; nothing is left."""
        self._tell(END)
        for member in self._members:
            os.close(member.orders)
        for member in self._members:
            ended(member.process, 5.0)
            os.close(member.journal)
        self._departed += [member.stream for member in self._members]
        self._members.clear()

    def _tell(self, order: bytes) -> None:
        for member in self._members:
            with contextlib.suppress(OSError):
                os.write(member.orders, order)


def _listeners(plan: Plan) -> list[tuple[int, bool]]:
    made: list[tuple[int, bool]] = []
    for version in plan.versions:
        try:
            made.append((dial.listener(version == 6, plan.port).detach(), version == 6))
        except OSError as problem:
            for descriptor, _ in made:
                os.close(descriptor)
            raise CannotRecordError(
                f"port {plan.port} cannot be listened on ({problem.strerror})", "give another --port"
            ) from None
    return made
