"""One run of a schedule: never two at once, missed ones noted, its output in a log that stays small."""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from netrec.errors import UsageError
from netrec.text import printable
from recorder.schedule.cron import CronExpression
from recorder.schedule.definition import Schedule
from recorder.schedule.history import History, Run, due_time, last_known, missed

LOG_BYTES = 1_000_000
LOG_FILES = 3


def run(schedule: Schedule) -> int:
    """Record now, as the schedule says; the exit code of the recording.

    0 also when the run before is still going: that is noted, and nothing is started. Raises `UsageError` when the
    schedule's folder cannot be written.
    """
    expression = CronExpression.parse(schedule.cron)
    history = History(schedule.home / "runs.ndjson")
    due = due_time(expression, datetime.now())
    try:
        with _log(schedule) as log, _lock(schedule) as alone:
            if not alone:
                log.warning("skipped: the run before is still going")
                history.add(Run(due.isoformat(), "skipped", detail="the run before was still going"))
                return 0
            # Those skipped while the run before was going are noted already; what is not noted never started.
            created = datetime.fromisoformat(schedule.created).astimezone().replace(tzinfo=None)
            gap = missed(expression, last_known(history.entries(), created), due)
            if gap:
                log.warning("missed: %d times from %s to %s", gap.count, gap.due, gap.until)
                history.add(gap)
            outcome = _record(schedule, due, log)
            history.add(outcome)
            history.trim()
            return outcome.exit_code or 0
    except OSError as problem:
        raise UsageError(f"{schedule.home} cannot be written ({problem.strerror})", "run as root") from None


def is_running(schedule: Schedule) -> bool:
    """Whether a run is going on."""
    try:
        with (schedule.home / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _record(schedule: Schedule, due: datetime, log: logging.Logger) -> Run:
    started, before = datetime.now().astimezone(), time.monotonic()
    command = [*schedule.command, "record", *schedule.arguments]
    log.info("started for %s: %s", due.isoformat(), " ".join(map(printable, schedule.arguments)))
    last = ""
    try:
        with (
            subprocess.Popen(
                command,
                cwd=schedule.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
            _signals_passed_on(process),
        ):
            assert process.stdout is not None
            for line in process.stdout:
                last = printable(line.rstrip()[:2000])
                log.info("%s", last)
            code = process.wait()
    except OSError as problem:  # the program or the folder is gone
        code, last = 127, f"{problem.strerror}: {problem.filename}"
        log.error("%s", last)
    seconds = round(time.monotonic() - before, 3)
    log.info("ended with exit code %d after %.1f s", code, seconds)
    return Run(
        due=due.isoformat(),
        result="failed" if code else "done",
        started=started.isoformat(timespec="seconds"),
        seconds=seconds,
        exit_code=code,
        detail="" if code == 0 else last,
    )


@contextmanager
def _lock(schedule: Schedule) -> Iterator[bool]:
    """Whether this process alone runs the schedule, until the block or the process ends."""
    descriptor = os.open(schedule.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextmanager
def _log(schedule: Schedule) -> Iterator[logging.Logger]:
    """The schedule's log; it turns itself over at a megabyte and keeps three older ones."""
    handler = logging.handlers.RotatingFileHandler(
        schedule.home / "log", maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True
    )
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(message)s", "%Y-%m-%dT%H:%M:%S"))
    logger = logging.Logger(f"netrec.schedule.{schedule.name}", logging.INFO)
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        handler.close()


@contextmanager
def _signals_passed_on(process: subprocess.Popen[str]) -> Iterator[None]:
    """A request to stop goes to the recorder, which then writes what it has."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
