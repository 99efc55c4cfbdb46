"""The tproxy source: starts the guard and the workers, collects their rows, and ends them in order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from netrec.errors import CannotRecordError
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.tproxy import checks, dial, wire
from recorder.sources.tproxy.plan import Plan, run_ip
from recorder.sources.tproxy.rows import WorkerStream
from recorder.sources.tproxy.worker import DRAIN, END, Assignment

PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
START_PATIENCE = 20.0
# Packets taken by the rules, of which none has become a session: something on this host drops them.
TAKEN_WITHOUT_SESSION = 20
_READ = 1 << 20


class TproxySource:
    """A running `tproxy` source: the life cycle of `recorder.source.Source`."""

    def __init__(self, context: CaptureContext, plan: Plan) -> None:
        self.plan = plan
        self._context = context
        self._drain = float(context.settings.get("drain_timeout", 5.0))
        self._guard: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None  # to the guard
        self._answers = b""
        self._workers: list[subprocess.Popen[bytes]] = []
        self._orders: list[int] = []  # to the workers
        self._streams: dict[int, WorkerStream] = {}
        self._counters: dict[int, dict[str, int]] = {}
        self._accepted = self._seen = self._lost = 0
        self._passed_now = self._passed_told = 0  # sessions that passed by: so far, and already in the health table
        self._failure = ""
        self._relays: set[int] = set()

    def relays(self) -> set[int]:
        """Processes whose sockets carry recorded sessions: the workers, and this one, which made the listeners."""
        return self._relays

    @property
    def pids(self) -> list[int]:
        """Of the guard and the workers."""
        return [process.pid for process in (self._guard, *self._workers) if process]

    def start(self) -> None:
        """All or nothing: listeners, guard with table and routes, workers, and only then the first session.

        Raises `CannotRecordError`; nothing is left in place then.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        plan = self.plan
        inherited: list[int] = []  # the children's ends, closed here when they have them
        beats: dict[int, str] = {}
        assignments = []
        for number in range(plan.workers):
            listeners = self._listeners()
            inherited += [descriptor for descriptor, _ in listeners]
            journal, journal_in = os.pipe()
            beat, beat_in = os.pipe()
            control, orders = os.pipe()
            for pipe in (journal_in, beat_in, beat, journal):
                os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):
                fcntl.fcntl(journal_in, F_SETPIPE_SZ, PIPE_SIZE)
            inherited += [journal_in, beat_in, beat, control]
            beats[beat] = f"worker {number + 1}"
            self._orders.append(orders)
            self._streams[journal] = WorkerStream(
                number, self._context.host, self._role(), self._counted(number), self._seen_elsewhere()
            )
            assignments.append(
                Assignment(
                    number=number,
                    listeners=listeners,
                    journal=journal_in,
                    beat=beat_in,
                    control=control,
                    mode=self._mode(),
                    mark=plan.own_mark if plan.local else 0,
                    session_limit=plan.session_limit,
                    pipe_limit=checks.PIPES,
                    active_timeout=float(self._context.settings.get("active_timeout", 10.0)),
                    keep_query=bool(self._context.settings.get("http_query")),
                )
            )
        self._control, guards = socket.socketpair()
        self._control.settimeout(START_PATIENCE)
        given = {"plan": asdict(plan), "control": guards.fileno(), "beats": beats}
        try:
            self._guard = _spawn("guard", given, [guards.fileno(), *beats])
            guards.close()
            self._order("install")
            for one in assignments:
                passed = [one.journal, one.beat, one.control, *(descriptor for descriptor, _ in one.listeners)]
                self._workers.append(_spawn("worker", asdict(one), passed))
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        self._order("workers " + " ".join(str(worker.pid) for worker in self._workers))
        self._relays = {os.getpid(), *(worker.pid for worker in self._workers)}
        self._await_workers()
        self._order("activate")
        self._control.setblocking(False)

    def _listeners(self) -> list[tuple[int, bool]]:
        made = []
        for version in self.plan.versions:
            try:
                made.append((dial.listener(version == 6, self.plan.port).detach(), version == 6))
            except OSError as problem:
                raise CannotRecordError(
                    f"port {self.plan.port} cannot be listened on ({problem.strerror})", "give another --port"
                ) from None
        return made

    def _mode(self) -> str:
        if not self.plan.interfaces:
            return "host"
        return "client" if self.plan.spoof else "self"

    def _role(self) -> Callable[[str], str]:
        """Which side of a session this host is on, by the client's address."""
        if not self.plan.local:
            return lambda client: "none"
        if not self.plan.interfaces:
            return lambda client: "client"
        own = checks.own_addresses()
        return lambda client: "client" if client in own else "none"

    def _seen_elsewhere(self) -> bool:
        """Whether the ebpf source records this host's own connections too: its rows are those of the programs."""
        return "ebpf" in (self._context.settings.get("source") or ())

    def _counted(self, number: int) -> Any:
        def counted(counters: dict[str, int]) -> None:
            self._counters[number] = counters
            self._accepted += counters["accepted"]
            self._lost += counters["lost"]

        return counted

    def _await_workers(self) -> None:
        """Until each has spoken once: then its loop runs."""
        deadline = time.monotonic() + START_PATIENCE
        while len(self._counters) < self.plan.workers:
            self._receive()
            if any(worker.poll() is not None for worker in self._workers) or time.monotonic() > deadline:
                raise CannotRecordError("a worker of the proxy did not start", "--debug shows its error above")
            time.sleep(0.01)

    def _order(self, line: str) -> None:
        """Send the guard an order and wait until it is carried out. Raises `CannotRecordError`."""
        assert self._control is not None
        self._control.settimeout(START_PATIENCE)
        try:
            self._control.sendall(line.encode() + b"\n")
            while True:
                answer = self._line(self._control)
                if answer == "ok":
                    return
                if not answer.startswith("counted"):
                    raise CannotRecordError(
                        f"the rules could not be put in place ({answer.removeprefix('error ')})",
                        "nothing was changed; netrec record --dry-run shows every rule",
                    )
        except OSError as problem:
            raise CannotRecordError(f"the proxy's guard has gone ({problem})", "nothing is left in place") from None

    def _line(self, control: socket.socket) -> str:
        while b"\n" not in self._answers:
            got = control.recv(4096)
            if not got:
                raise ConnectionResetError("it has ended")
            self._answers += got
        line, _, self._answers = self._answers.partition(b"\n")
        return line.decode()

    # -- running

    def poll(self) -> bool:
        """Take what the workers have written; True when there may be more at once."""
        self._listen_to_guard()
        return self._receive()

    def read(self) -> Iterable[tuple[str, Any]]:
        """Rows since the last call. Raises `CannotRecordError` once the proxy has ended and its rows are taken."""
        found = [("flows", batch) for stream in self._streams.values() for batch in stream.take()]
        self._seen += sum(batch.num_rows for _, batch in found)
        if self._failure and not found:
            raise CannotRecordError(
                f"the proxy was taken out: {self._failure}", "traffic flows on without it; start the recording again"
            )
        return found

    def health(self) -> SourceHealth:
        """Sessions open against the most there can be.

        Lost in the ring: records that the recorder did not take in time. Lost in the map: sessions that passed by
        while a worker was full or did not respond (the packets that opened them, so that a repeated one counts too).
        """
        seen, self._seen = self._seen, 0
        lost, self._lost = self._lost, 0
        passed, self._passed_told = self._passed_now - self._passed_told, self._passed_now
        current = self._counters.values()
        return SourceHealth(
            events_seen=seen + lost + passed,
            lost_in_ring=lost,
            lost_in_map=passed,
            map_used=sum(one["open"] for one in current),
            map_limit=sum(one["limit"] for one in current),
        )

    def _receive(self) -> bool:
        more = False
        for descriptor, stream in list(self._streams.items()):
            try:
                data = os.read(descriptor, _READ)
            except BlockingIOError:
                continue
            if data:
                more = more or len(data) == _READ
                stream.feed(data)
            else:
                self._failure = self._failure or f"worker {stream.number + 1} has ended"
        return more

    def _listen_to_guard(self) -> None:
        if self._control is None or self._failure:
            return
        try:
            while True:
                word, _, rest = self._line(self._control).partition(" ")
                if word == "failed":
                    self._failure = rest
                elif word == "counted":
                    taken, passed = map(int, rest.split())
                    self._passed_now = passed
                    if self._accepted or taken < TAKEN_WITHOUT_SESSION:
                        continue
                    self._failure = "packets that it was given never arrived (does a firewall rule drop them at input?)"
                    self._take_away()
                    return
        except BlockingIOError:
            return
        except OSError:
            self._failure = self._failure or "its guard has ended"
            self._unroute()

    # -- the end

    def stop(self) -> Iterable[tuple[str, Any]]:
        """No new sessions; those that are open get the drain time to end, then a reset. The last rows."""
        deadline = time.monotonic() + self._drain
        with contextlib.suppress(CannotRecordError):
            if not self._failure:
                self._order("deactivate")
        self._counters.clear()  # what they say from now on counts
        self._tell(DRAIN)
        while time.monotonic() < deadline and not self._failure:
            self._receive()
            if len(self._counters) == len(self._workers) and not any(one["open"] for one in self._counters.values()):
                break
            time.sleep(0.02)
        self._tell(END)
        self._drain_streams()
        rows = [("flows", batch) for stream in self._streams.values() for batch in stream.take()]
        self._seen += sum(batch.num_rows for _, batch in rows)
        self._take_away()
        self._tidy()
        return rows

    def _drain_streams(self) -> None:
        """Read until every worker has closed its pipe."""
        open_streams = dict(self._streams)
        deadline = time.monotonic() + 10
        while open_streams and time.monotonic() < deadline:
            ready, _, _ = select.select(list(open_streams), [], [], 1.0)
            for descriptor in ready:
                data = os.read(descriptor, _READ)
                if data:
                    open_streams[descriptor].feed(data)
                else:
                    del open_streams[descriptor]

    def close(self) -> None:
        """End everything at once, without the rows; never raises."""
        try:
            self._tell(END)
            self._take_away()
            self._tidy()
        except Exception as problem:
            print(f"netrec: the proxy did not end in order ({problem})", file=sys.stderr)

    def _tell(self, order: bytes) -> None:
        for descriptor in self._orders:
            with contextlib.suppress(OSError):
                os.write(descriptor, order)

    def _take_away(self) -> None:
        """Table, rules and routes are gone after this, whoever has to do it."""
        if self._control is not None:
            with contextlib.suppress(CannotRecordError):
                self._order("remove")
            self._control.close()
            self._control = None
        if self._guard is not None:
            if _ended(self._guard, 5.0) != 0:
                self._unroute()
            self._guard = None

    def _unroute(self) -> None:
        with contextlib.suppress(OSError):
            run_ip(self.plan.unroute())

    def _tidy(self) -> None:
        for descriptor in self._orders:
            os.close(descriptor)
        self._orders.clear()
        for worker in self._workers:
            _ended(worker, 5.0)
        self._workers.clear()
        for descriptor in self._streams:
            os.close(descriptor)
        self._streams.clear()


def _spawn(module: str, given: dict[str, Any], descriptors: list[int]) -> subprocess.Popen[bytes]:
    """One of our own modules as a process, in a session of its own, so that Ctrl-C is the recorder's alone."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"recorder.sources.tproxy.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
    return process


def _ended(process: subprocess.Popen[bytes], patience: float) -> int:
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def create(context: CaptureContext) -> TproxySource:
    """Decide and check everything; raises `CannotRecordError` or `UsageError` with nothing changed."""
    return TproxySource(context, checks.prepare(context.settings))


__all__ = ["TproxySource", "create", "wire"]
