"""The tproxy source: starts the guard and the workers, hands over their rows, and ends them in order."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from netrec.errors import CannotRecordError
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.tproxy import checks
from recorder.sources.tproxy.crew import Crew
from recorder.sources.tproxy.guard_client import GuardClient
from recorder.sources.tproxy.plan import Plan, run_ip
from recorder.sources.tproxy.processes import KEPT
from recorder.sources.tproxy.rows import WorkerStream

# Packets taken by the rules, of which none has become a session when the guard counts the second time (a second later):
# something on this host drops them.
TAKEN_WITHOUT_SESSION = 20


class TproxySource:
    """A running `tproxy` source: the life cycle of `recorder.source.Source`."""

    losses: ClassVar = {
        "lost_in_ring": "sessions ended with their worker, or their rows were not taken in time",
        "lost_in_map": "sessions passed by while a worker was full or did not respond",
    }

    def __init__(self, context: CaptureContext, plan: Plan) -> None:
        self.plan = plan
        self._context = context
        self._drain = float(context.settings.get("drain_timeout", 5.0))
        self._guard: GuardClient | None = None
        self._crew: Crew | None = None
        self._seen = 0
        self._passed_now = self._passed_told = 0  # sessions that passed by: so far, and already in the health table
        self._unmet = False  # packets were taken, and no session has come of them
        self._failure = ""

    def relays(self) -> set[int]:
        """Processes whose sockets carry recorded sessions: the workers, and this one, which made the listeners."""
        return self._crew.every_pid if self._crew else set()

    @property
    def pids(self) -> list[int]:
        """Of the guard and the workers."""
        guard = [self._guard.process.pid] if self._guard else []
        return guard + (self._crew.pids if self._crew else [])

    def capabilities(self) -> set[str]:
        """Those of the guard and the workers, which are started again when they die."""
        return set(KEPT)

    def start(self) -> None:
        """All or nothing: guard with table and routes, listeners and workers, and only then the first session.

        Raises `CannotRecordError`; nothing is left in place then.
        """
        try:
            self._guard = GuardClient(self.plan)
            self._guard.order("install")
            self._crew = Crew(self.plan, self._guard, self._assignment(), self._stream)
            self._crew.start()
            self._guard.order("activate")
        except BaseException:
            self.close()
            raise

    def _assignment(self) -> dict[str, Any]:
        """What all workers are told alike."""
        plan, settings = self.plan, self._context.settings
        return {
            "mode": ("client" if plan.spoof else "self") if plan.interfaces else "host",
            "mark": plan.own_mark if plan.local else 0,
            "session_limit": plan.session_limit,
            "pipe_limit": checks.PIPES,
            "active_timeout": float(settings.get("active_timeout", 10.0)),
            "keep_query": bool(settings.get("http_query")),
        }

    def _stream(self) -> WorkerStream:
        # With the ebpf source beside it, this host's own connections are counted by its rows, which are the programs'.
        seen_elsewhere = "ebpf" in (self._context.settings.get("source") or ())
        return WorkerStream(self._context.host, self._role(), seen_elsewhere)

    def _role(self) -> Callable[[str], str]:
        """Which side of a session this host is on, by the client's address."""
        if not self.plan.local:
            return lambda client: "none"
        if not self.plan.interfaces:
            return lambda client: "client"
        own = checks.own_addresses()
        return lambda client: "client" if client in own else "none"

    # -- running

    def poll(self) -> bool:
        """Take what the workers have written; True when there may be more at once."""
        crew = self._crew
        if crew is None:
            return False
        try:
            more = crew.receive()[0] if self._failure else crew.tend()
        except CannotRecordError as problem:
            self._fail(f"a worker could not be replaced: {problem.message}")
            more = True
        self._listen_to_guard()  # after the workers: what they had accepted is known by now
        return more

    def read(self) -> Iterable[tuple[str, Any]]:
        """Rows since the last call. Raises `CannotRecordError` once the proxy has ended and its rows are taken."""
        found = self._rows()
        if self._failure and not found:
            raise CannotRecordError(
                f"the proxy was taken out: {self._failure}", "traffic flows on without it; start the recording again"
            )
        return found

    def _rows(self) -> list[tuple[str, Any]]:
        found = [("flows", batch) for batch in self._crew.batches()] if self._crew else []
        self._seen += sum(batch.num_rows for _, batch in found)
        return found

    def health(self) -> SourceHealth:
        """Sessions open against the most there can be.

        Lost in the ring: records that the recorder did not take in time, and sessions that ended with their worker.
        Lost in the map: sessions that passed by while a worker was full or did not respond (the packets that opened
        them, so that a repeated one counts too).
        """
        seen, self._seen = self._seen, 0
        passed, self._passed_told = self._passed_now - self._passed_told, self._passed_now
        crew = self._crew
        if crew is None:
            return SourceHealth(events_seen=seen + passed, lost_in_map=passed)
        lost, crew.lost = crew.lost, 0
        notes, crew.notes = tuple(crew.notes), []
        return SourceHealth(
            events_seen=seen + lost + passed,
            lost_in_ring=lost,
            lost_in_map=passed,
            map_used=crew.gauge("open"),
            map_limit=crew.gauge("limit"),
            notes=notes,
        )

    def _listen_to_guard(self) -> None:
        if self._guard is None or self._failure:
            return
        try:
            for word, rest in self._guard.words():
                if word == "failed":
                    self._failure = rest
                elif word == "counted":
                    taken, self._passed_now = map(int, rest.split())
                    nobody = self._crew is not None and not self._crew.accepted
                    before, self._unmet = self._unmet, nobody and taken >= TAKEN_WITHOUT_SESSION
                    if before and self._unmet:
                        self._fail("packets that it was given never arrived (does a firewall rule drop them at input?)")
                        return
        except OSError as problem:
            self._fail(f"its guard is gone: {problem}")

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._take_away()

    # -- the end

    def stop(self) -> Iterable[tuple[str, Any]]:
        """No new sessions; those that are open get the drain time to end, then a reset. The last rows."""
        if self._crew is None:
            return []
        if self._guard and not self._failure:
            with contextlib.suppress(CannotRecordError):
                self._guard.order("deactivate")
                self._crew.drain(self._drain)
        self._crew.finish()
        self._take_away()
        self._crew.release()
        return self._rows()

    def close(self) -> None:
        """End everything at once, without the rows; never raises."""
        try:
            self._take_away()
            if self._crew is not None:
                self._crew.release()
        except Exception as problem:
            print(f"netrec: the proxy did not end in order ({problem})", file=sys.stderr)

    def _take_away(self) -> None:
        """Table, rules and routes are gone after this, whoever has to do it."""
        guard, self._guard = self._guard, None
        if guard is not None and not guard.end():
            with contextlib.suppress(OSError):
                run_ip(self.plan.unroute())


def create(context: CaptureContext) -> TproxySource:
    """Decide and check everything; raises `CannotRecordError` or `UsageError` with nothing changed."""
    return TproxySource(context, checks.prepare(context.settings))
