"""A day of minutes: 1,440 rotations of a whole recorder, one after the other; memory, descriptors and files stay flat.

`netrec record` with the sources ebpf and host, with UDP and events, beside short connections; SIGHUP makes it rotate,
as the minutes would, as soon as the rotation before is done and its files are written. Everything that a rotation
makes, converts and deletes happens as often as in a day with --rotate-interval 1m; what depends on the time itself (the
hours of files, --keep-age) does not.

The first tenth is the warming up. Whether memory is flat is judged by what a leak would do: the medians of the first
and of the last third after it, of what the recorder has allocated. Pages of files (libraries) come and go with what
else the host does; they are in the most that it took.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.churn import PAYLOAD, build
from benchmarks.harness import (
    NETREC,
    Background,
    Options,
    Report,
    Target,
    anonymous,
    interval,
    json_lines,
    median,
    resident,
    scratch,
)

ROTATIONS, EVERY = 1440, 8
KEEP = 4_000_000
CONNECTIONS_A_SECOND = 300
SOURCES = ("--source", "ebpf,host", "--protocols", "tcp,udp", "--events")
# Files in the spool, those that are being written included: more are waiting to become Parquet.
WAITING = 12
SHOWN = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Moment:
    """What there was after a rotation: bytes resident and, of these, allocated (children included), descriptors,
    threads; files and bytes of the trace, what is being written included; bytes of its finished files; and the number
    of files made so far."""

    memory: int
    allocated: int
    descriptors: int
    threads: int
    files: int
    bytes: int
    finished: int
    made: int


@dataclass(frozen=True)
class Run:
    """A whole run: moments after rotations, what was lost, and the sequence number of the last file of flows."""

    moments: list[Moment]
    lost: int
    last: int


def rotate(trace: Path, rotations: int, keep: int, options: Sequence[str], every: int = 1) -> Run:
    """Record with these options, and rotate so many times; a moment after `every` so many signals.

    Signals that come while a rotation is under way are one to the recorder: what counts is its numbering of the files.
    Raises `RuntimeError` when the recorder ends before, or hardly rotates.
    """
    command = [NETREC, "record", "-o", str(trace), "--json", "--rotate-interval", "1h", "--keep-size", str(keep)]
    running = Background([*command, *options], lambda running: '"elapsed"' in running.text())
    moments: list[Moment] = []
    reached = done = 0
    try:
        while reached < rotations:
            done += 1
            if done > rotations * 1.2 + 10:
                raise RuntimeError(f"only {reached} rotations after {done} signals")
            said = os.fstat(running.output.fileno()).st_size
            running.process.send_signal(signal.SIGHUP)
            while os.fstat(running.output.fileno()).st_size == said or _waiting(trace):
                if running.process.poll() is not None:
                    raise RuntimeError(f"the recorder ended before the run was over: {running.text()[-500:]}")
                time.sleep(0.005)
            reached = max([reached, *(_number(path) for path in trace.glob(".spool/*/*.arrows"))])
            if done % every == 0:
                made = next(line["files"] for line in reversed(json_lines(running.text())) if "files" in line)
                moments.append(_moment(running.process.pid, trace, made))
        last = json_lines(running.stop().output)[-1]
    finally:
        running.kill()
    files = sorted(map(_number, trace.glob("flows/**/*.parquet")))
    return Run(moments, last["lost"], files[-1] if files else 0)


def _number(path: Path) -> int:
    """The sequence number in the name of a file of a trace or spool."""
    return int(path.stem.rpartition("-")[2])


def _waiting(trace: Path) -> bool:
    """Whether files of the spool wait to become Parquet."""
    return len(list(trace.glob(".spool/*/*"))) > WAITING


def _moment(pid: int, trace: Path, made: int) -> Moment:
    sizes, finished = [], 0
    for folder, _, names in os.walk(trace):  # which passes over folders that are deleted meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(Path(folder, name).stat().st_size)
                finished += sizes[-1] if name.endswith(".parquet") else 0
    return Moment(
        resident(pid),
        anonymous(pid),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        len(sizes),
        sum(sizes),
        finished,
        made,
    )


def run(options: Options) -> Report:
    rotations, every = options.size(ROTATIONS, 30), options.size(EVERY, 1)
    report = Report(
        [
            "after rotations",
            "memory MB",
            "allocated MB",
            "descriptors",
            "threads",
            "files of the trace",
            "MB of it",
            "files made",
        ]
    )
    with scratch() as folder:
        command = [build(), "1", "10000000", str(PAYLOAD), str(PAYLOAD), str(CONNECTIONS_A_SECOND)]
        load = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        try:
            done = rotate(folder, rotations, KEEP, SOURCES, every)
        finally:
            load.kill()
            load.wait()
    for part in SHOWN:
        place = max(int(part * len(done.moments)), 1)
        one = done.moments[place - 1]
        files = (one.files, one.bytes / 1e6, one.made)
        report.rows.append([place * every, one.memory / 1e6, one.allocated / 1e6, one.descriptors, one.threads, *files])
    first, last = _tenth(done.moments, 0.1), _tenth(done.moments, 0.9)
    growth, uncertain = _growth([one.allocated for one in done.moments[len(done.moments) // 10 :]])
    finished = max(one.finished for one in done.moments)
    report.targets += [
        Target("rotations, as the last file is numbered", done.last, rotations - 1, at_least=True),
        Target("allocated memory, last third over the first", growth, 5, "% more"),
        Target("most memory", max(one.memory for one in done.moments) / 1e6, 120, "MB"),
        Target("descriptors, last tenth over the second", _most(last, "descriptors") - _most(first, "descriptors"), 2),
        Target("threads, last tenth over the second", _most(last, "threads") - _most(first, "threads"), 0),
        Target("most bytes of finished files", finished / 1e6, KEEP / 1e6 * 1.25, "MB"),
        Target("events lost", done.lost, 0),
    ]  # fmt: skip
    report.notes.append(f"Growth of the allocated memory, 95% interval: {uncertain}%.")
    report.notes.append("Descriptors: up to two are open for a moment, for a file that is being made.")
    report.notes.append(f"--keep-size {KEEP / 1e6:g}MB; {CONNECTIONS_A_SECOND} connections/s beside it.")
    return report


def _growth(values: list[int]) -> tuple[float, str]:
    """How much larger the median of the last third is than that of the first, in percent, and its 95% interval."""
    third = max(len(values) // 3, 1)
    base = median(values[:third])
    changes = [(value / base - 1) * 100 for value in values[-third:]]
    return median(changes), interval(changes)


def _tenth(moments: list[Moment], begin: float) -> list[Moment]:
    start = int(begin * len(moments))
    return moments[start : start + max(len(moments) // 10, 1)]


def _most(moments: list[Moment], what: str) -> int:
    return max(getattr(one, what) for one in moments)
