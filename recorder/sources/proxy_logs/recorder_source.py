"""A proxy's log as a source: lines -> sessions -> rows; what does not fit goes to `rejected/` with the reason."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from netrec.text import printable
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.proxy_logs import session as sessions
from recorder.sources.proxy_logs.follow import FollowedFile, Lines, Place, Syslog
from recorder.sources.proxy_logs.formats import Parse
from recorder.sources.proxy_logs.session import LoggedSession, Unfit

REJECTED_FOLDER = "rejected"
STATE_FOLDER = ".followed"
# Lines that do not fit are kept up to this size of one capture's file; beyond it they are counted only.
REJECTED_LIMIT = 100_000_000
# At most so many rows wait for the pipeline; then reading pauses (a file waits, datagrams wait in the socket).
PENDING_LIMIT = 200_000


class LogSource:
    """A running `haproxy`, `envoy` or `squid` source: the life cycle of `recorder.source.Source`."""

    def __init__(self, name: str, context: CaptureContext, parse: Parse) -> None:
        self._name = name
        self._context = context
        self._parse = parse
        self._lines: Lines | None = None
        self._sessions: list[LoggedSession] = []
        self._rejected: IO[str] | None = None
        self._seen = self._unfit = 0
        self._mark = 0
        self._told_end = False
        self._given: Place | None = None  # up to where rows have been given to the pipeline

    @property
    def _output(self) -> Path:
        return Path(self._context.settings.get("output") or "trace")

    def start(self) -> None:
        """Open the log. Raises `CannotRecordError`."""
        settings = self._context.settings
        where = str(settings.get("log_syslog") or settings["log"])
        # Rows of one place in one log have the same flow_id, whenever they are read.
        self._mark = int.from_bytes(hashlib.sha256(f"{self._name} {where}".encode()).digest()[:2], "big") >> 1
        if settings.get("log_syslog"):
            self._lines = Syslog(where)
        else:
            path = Path(where).absolute()
            state = self._output / STATE_FOLDER / f"{self._name}-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.json"
            self._lines = FollowedFile(path, state, to_end=bool(settings.get("log_once")))

    def poll(self) -> bool:
        """Read and parse what has come; True when there is more."""
        lines = self._lines
        if lines is None or lines.finished or len(self._sessions) >= PENDING_LIMIT:
            return False
        found = lines.read()
        for offset, line in found:
            if line.strip():
                self._take(offset, line)
        if lines.finished and not self._told_end:
            self._told_end = True
            os.kill(os.getpid(), signal.SIGTERM)  # as the user would: the pipeline ends in order
        return bool(found)

    def _take(self, offset: int, line: bytes) -> None:
        self._seen += 1
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        try:
            session = self._parse(text)
        except Unfit as reason:
            self._reject(str(reason), text)
            return
        session.flow_id = self._mark << 47 | offset & (1 << 47) - 1
        self._sessions.append(session)

    def _reject(self, reason: str, line: str) -> None:
        self._unfit += 1
        if self._rejected is None:
            folder = self._output / REJECTED_FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            self._rejected = (folder / f"{self._name}-{self._context.capture}.log").open("a", encoding="utf-8")
        if self._rejected.tell() < REJECTED_LIMIT:
            self._rejected.write(f"{reason}\t{printable(line)}\n")
            self._rejected.flush()

    def read(self) -> Iterable[tuple[str, Any]]:
        """Rows since the last call. What the last call gave is in the spool by now: its place is remembered."""
        if self._lines is not None:
            if self._given is not None:
                self._lines.keep(self._given)
            self._given = self._lines.place()
        taken, self._sessions = self._sessions, []
        if taken:
            yield "flows", sessions.batch(taken, self._name, self._context.host)

    def health(self) -> SourceHealth:
        """Lines read; those that did not fit count as lost."""
        seen, self._seen = self._seen, 0
        unfit, self._unfit = self._unfit, 0
        return SourceHealth(events_seen=seen, lost_in_ring=unfit)

    def stop(self) -> Iterable[tuple[str, Any]]:
        """What is there by now, up to the end of the log."""
        while self.poll():
            pass
        rows = list(self.read())
        if self._lines is not None:
            self._lines.keep(self._given)
        self.close()
        return rows

    def close(self) -> None:
        if self._lines is not None:
            self._lines.close()
            self._lines = None
        if self._rejected is not None:
            self._rejected.close()
            self._rejected = None
