"""What became of each time that a schedule was due: one JSON object a line, the oldest dropped in the end."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from recorder.schedule.cron import CronExpression
from recorder.schedule.definition import replace_file

KEPT = 1000
# Cron and systemd start a run within seconds of its time; later, the time was missed.
LATE = timedelta(seconds=90)


@dataclass(frozen=True)
class Run:
    """One entry. `due` is the local time that the schedule named (of a missed one the first), ISO 8601 without zone.

    `result`: done, failed (`exit_code`), skipped (the run before was still going), missed (`count` times, until
    `until`: the host or its cron was off).
    """

    due: str
    result: Literal["done", "failed", "skipped", "missed"]
    started: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    count: int = 1
    until: str = ""
    detail: str = ""


class History:
    """The entries in a file. The holder of the schedule's lock writes; another run only appends that it was skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[Run]:
        """From the oldest on; lines that cannot be read (a full disk cut them off) are passed over."""
        found = []
        try:
            lines = self._path.read_text().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                found.append(Run(**json.loads(line)))
            except (TypeError, ValueError):
                continue
        return found

    def add(self, run: Run) -> None:
        """Append one; one write, so that two processes do not mix their lines."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")

    def trim(self) -> None:
        """Keep the last thousand."""
        entries = self.entries()
        if len(entries) > KEPT:
            text = "".join(json.dumps(asdict(run)) + "\n" for run in entries[-KEPT:])
            replace_file(self._path, text, 0o640)


def due_time(expression: CronExpression, now: datetime) -> datetime:
    """The time that a run which starts now is for: the last due one if that is less than 90 s ago, or now."""
    due = list(_between(expression, now - LATE, now))
    return due[-1] if due else now.replace(microsecond=0)


def missed(expression: CronExpression, since: datetime, due: datetime) -> Run | None:
    """The times after `since` (the last one known of, or the schedule's making) and before `due`, as one entry."""
    # The run that starts now is for `due`; what came before it and left no entry never started.
    times = [time for time in _between(expression, since, due) if time < due]
    if not times:
        return None
    return Run(
        due=times[0].isoformat(),
        until=times[-1].isoformat(),
        result="missed",
        count=len(times),
        detail="the host or its scheduler was off",
    )


def last_known(entries: list[Run], created: datetime) -> datetime:
    """The latest time that an entry accounts for; local, without zone."""
    times = [datetime.fromisoformat(run.until or run.due) for run in entries]
    return max([*times, created])


def _between(expression: CronExpression, after: datetime, until: datetime) -> list[datetime]:
    """Due times in (after, until], at most a month of minutes of them."""
    found: list[datetime] = []
    for time in expression.after(after):
        if time > until or len(found) >= 45_000:
            break
        found.append(time)
    return found
