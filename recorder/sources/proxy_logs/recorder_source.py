"""A proxy's log as a source: lines -> sessions -> rows; what does not fit goes to `rejected/` with the reason."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, ClassVar

from netrec.errors import CannotRecordError
from netrec.text import printable
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.proxy_logs import session as sessions
from recorder.sources.proxy_logs import written
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

    losses: ClassVar = {"lost_in_ring": "lines do not fit the format (see rejected/)"}

    def __init__(self, name: str, context: CaptureContext, parse: Parse) -> None:
        self._name = name
        self._context = context
        self._parse = parse
        self._lines: Lines | None = None
        self._sessions: list[LoggedSession] = []
        self._rejected: IO[str] | None = None
        self._seen = self._unfit = 0
        self._told_end = False
        self._failure: CannotRecordError | None = None  # why no more lines come
        self._given: Place | None = None  # up to where rows have been given to the pipeline
        self._stopped = False
        # Lines up to here were written by a recording that was killed before it could remember so.
        self._rows_written = self._rejected_written = -1
        self._captures: list[str] = []  # which may have written lines from the remembered place on

    @property
    def _output(self) -> Path:
        return Path(self._context.settings.get("output") or "trace")

    def capabilities(self) -> set[str]:
        """The log's next file, which the proxy's user alone may read."""
        return {"dac_read_search"}

    def start(self) -> None:
        """Open the log. Raises `CannotRecordError`."""
        settings = self._context.settings
        if settings.get("log_syslog"):
            self._lines = Syslog(str(settings["log_syslog"]))
            return
        path = Path(settings["log"]).absolute()
        state = self._output / STATE_FOLDER / f"{self._name}-{hashlib.sha256(bytes(path)).hexdigest()[:16]}.json"
        self._lines = FollowedFile(path, state, to_end=bool(settings.get("log_once")))
        place = self._lines.place()
        self._rows_written = written.rows_up_to(self._output, place.captures, self._name, place.position)
        self._rejected_written = written.rejected_up_to(self._output / REJECTED_FOLDER, place.captures, self._name)
        self._captures = [*place.captures, self._context.capture]
        try:
            self._lines.keep(replace(place, captures=self._captures))
        except OSError as problem:
            raise CannotRecordError(
                f"the place in the log cannot be remembered in {state.parent} ({problem.strerror})", "make room there"
            ) from None

    def poll(self) -> bool:
        """Read and parse what has come; True when there is more.

        Raises `CannotRecordError` when a line that does not fit cannot be kept.
        """
        lines = self._lines
        if lines is None or lines.finished or self._failure or len(self._sessions) >= PENDING_LIMIT:
            return False
        try:
            found = lines.read()
        except CannotRecordError as problem:
            self._failure = problem  # told when the rows of the lines before it are taken
            return False
        for position, line in found:
            if line.strip():
                self._take(position, line)
        if lines.finished and not self._told_end:
            self._told_end = True
            os.kill(os.getpid(), signal.SIGTERM)  # as the user would: the pipeline ends in order
        return bool(found)

    def _take(self, position: int, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        try:
            session = self._parse(text)
        except Unfit as reason:
            if position > self._rejected_written:
                self._seen += 1
                self._reject(position, str(reason), text)
            return
        if position > self._rows_written:
            self._seen += 1
            session.flow_id = written.flow_id(self._name, position)
            self._sessions.append(session)

    def _reject(self, position: int, reason: str, line: str) -> None:
        self._unfit += 1
        folder = self._output / REJECTED_FOLDER
        path = written.rejected_file(folder, self._name, self._context.capture)
        try:
            if self._rejected is None:
                folder.mkdir(parents=True, exist_ok=True)
                self._rejected = path.open("a", encoding="utf-8")
            if self._rejected.tell() < REJECTED_LIMIT:
                self._rejected.write(written.rejected_line(position, reason, printable(line)))
                self._rejected.flush()
        except OSError as problem:
            raise CannotRecordError(
                f"a line that does not fit cannot be kept in {path} ({problem.strerror})",
                "make room; the next start goes on with that line",
            ) from None

    def read(self) -> Iterable[tuple[str, Any]]:
        """Rows since the last call. What the last call gave is in the spool by now: its place is remembered.

        Raises `CannotRecordError` once no more lines can be read and all rows are taken.
        """
        if self._failure and not self._sessions:
            raise self._failure
        if self._lines is not None:
            if self._given is not None:
                self._remember(self._given)
            self._given = self._lines.place()
        taken, self._sessions = self._sessions, []
        if taken:
            yield "flows", sessions.batch(taken, self._name, self._context.host)

    def _remember(self, place: Place) -> None:
        assert self._lines is not None
        if not place.inode:
            return  # there was no file: that is remembered since the start, and when that was
        if place.position > max(self._rows_written, self._rejected_written):
            self._captures = [self._context.capture]  # earlier ones wrote nothing from there on
        with contextlib.suppress(OSError):  # no room: the next start then looks for the last row that was written
            self._lines.keep(replace(place, captures=self._captures))

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
        self._stopped = True
        return rows

    def close(self) -> None:
        """After `stop`, by when the pipeline has written what it gave: its place is remembered."""
        if self._lines is not None:
            if self._stopped and self._given is not None:
                self._remember(self._given)
            self._lines.close()
            self._lines = None
        if self._rejected is not None:
            with contextlib.suppress(OSError):  # what could not be written has been told
                self._rejected.close()
            self._rejected = None
