"""How a recording is going: a live line on a terminal, JSON lines for programs, sentences for the log.

The keys of a JSON line: `elapsed` and `remaining` in seconds (`remaining` null without a duration), `rows`, `files`
and `bytes` written since the start (rows of `flows`; Parquet bytes), `rows_per_second`, `spool_bytes` not yet turned
into Parquet, `lost` events, `paused` (null, or why nothing is being written), `sampling` (1 in so many flows) and
`degraded` (null, or what is left undone to keep within the budget). A line with the key `message` is a
sentence instead; the first other line comes when every source records, the last line has `done` true.
"""

from __future__ import annotations

import json
import sys
from typing import TextIO

from netrec.text import format_count, format_duration, format_size, printable
from recorder.outlet import Outlet
from recorder.pipeline import Status, Watcher


class Quiet(Watcher):
    """Says nothing."""

    def done(self, status: Status, then: str) -> None: ...


class Sentences(Watcher):
    """Out of the ordinary things as lines on standard error: what a service's log wants."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.outlet = Outlet(stream or sys.stderr)

    def say(self, sentence: str) -> None:
        self.outlet.write(f"netrec: {printable(sentence)}\n")

    def done(self, status: Status, then: str) -> None:
        """The last words: what there is now, and the command to run `then`."""
        self.say(summary(status, then))
        self.outlet.finish()


class LiveLine(Sentences):
    """One line that is written over and over, on a terminal."""

    def status(self, status: Status) -> None:
        self.outlet.offer(f"\r\x1b[2K{line(status)}")

    def say(self, sentence: str) -> None:
        self.outlet.write("\r\x1b[2K")
        super().say(sentence)


class JsonLines(Watcher):
    """One JSON object per second and sentence, on standard output."""

    def __init__(self) -> None:
        self.outlet = Outlet(sys.stdout)

    def status(self, status: Status) -> None:
        self.outlet.offer(json.dumps(as_json(status)) + "\n")

    def say(self, sentence: str) -> None:
        self.outlet.write(json.dumps({"message": sentence}) + "\n")

    def done(self, status: Status, then: str) -> None:
        """The totals at the end."""
        self.outlet.write(json.dumps({**as_json(status), "done": True}) + "\n")
        self.outlet.finish()


def as_json(status: Status) -> dict[str, object]:
    """A status as the documented keys."""
    remaining = None if status.duration is None else round(max(0.0, status.duration - status.elapsed), 3)
    return {
        "elapsed": round(status.elapsed, 3),
        "remaining": remaining,
        "rows": status.rows,
        "rows_per_second": round(status.rows_per_second, 1),
        "files": status.files,
        "bytes": status.bytes,
        "spool_bytes": status.spool_bytes,
        "lost": status.lost,
        "paused": status.paused or None,
        "sampling": status.sampling,
        "degraded": status.degraded or None,
    }


def line(status: Status) -> str:
    """A status in one line of less than 80 columns."""
    parts = [f"recording {format_duration(round(status.elapsed))}"]
    if status.duration is not None:
        parts.append(f"{format_duration(round(max(0.0, status.duration - status.elapsed)))} left")
    parts += [
        f"{format_count(status.rows_per_second)} flows/s",
        f"{format_count(status.rows)} flows",
        f"{format_size(status.bytes + status.spool_bytes)} on disk",
        f"{format_count(status.lost)} lost",
    ]
    if status.sampling > 1:
        parts.append(f"1 in {status.sampling}")
    if status.degraded:
        parts.append("LESS: budget")
    if status.paused:
        parts.append("NOT WRITING: disk")
    return " | ".join(parts)


def summary(status: Status, then: str) -> str:
    """The last words: what there is now, and the command to run `then`."""
    files = "1 file" if status.files == 1 else f"{status.files} files"
    others = [f"{rows} rows of {table}" for table, rows in sorted(status.tables.items()) if table != "flows" and rows]
    flows = [f"{status.rows} flow rows"] if status.rows or not others else []
    what, time = ", ".join([*flows, *others]), format_duration(status.elapsed)
    return f"recorded {what} in {time}: {files}, {format_size(status.bytes)}, {status.lost} lost; now run: {then}"
