"""A day of minutes: 1,440 rotations of a whole recorder, one after the other; memory, descriptors and files stay flat.

`netrec record` with the sources ebpf and host, with UDP and events, beside short connections; SIGHUP makes it rotate,
as the minutes would, as soon as the rotation before is done and its files are written. Everything that a rotation
makes, converts and deletes happens as often as in a day with --rotate-interval 1m; what depends on the time itself (the
hours of files, --keep-age) does not. The first tenth is the warming up.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.churn import PAYLOAD, build
from benchmarks.harness import NETREC, ROOT, Options, Report, Target, median, resident, scratch

ROTATIONS = 1440
KEEP = 4_000_000
CONNECTIONS_A_SECOND = 300
SOURCES = ("--source", "ebpf,host", "--protocols", "tcp,udp", "--events")
# Files in the spool, those that are being written included: more are waiting to become Parquet.
WAITING = 12
SHOWN = (0.1, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Moment:
    """What there was after a rotation: bytes resident (children included), descriptors, threads; files and bytes of the
    trace, what is being written included; and the number of files made so far."""

    memory: int
    descriptors: int
    threads: int
    files: int
    bytes: int
    made: int


@dataclass(frozen=True)
class Run:
    """A whole run: a moment for each rotation, what was lost, and the sequence number of the last file of flows."""

    moments: list[Moment]
    lost: int
    last: int


def rotate(trace: Path, rotations: int, keep: int, options: Sequence[str]) -> Run:
    """Record with these options, and rotate so many times. Raises `RuntimeError` when the recorder ends before."""
    command = [
        NETREC,
        "record",
        "-o",
        str(trace),
        "--json",
        "--rotate-interval",
        "1h",
        "--keep-size",
        str(keep),
        *options,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None

    def status() -> dict[str, int]:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if "files" in said:
                return said  # type: ignore[no-any-return]
        raise RuntimeError("the recorder ended before the run was over")

    moments = []
    try:
        status()
        for _ in range(rotations):
            process.send_signal(signal.SIGHUP)
            while len(list(trace.glob(".spool/*/*"))) > WAITING:
                time.sleep(0.005)
            moments.append(_moment(process.pid, trace, status()["files"]))
        process.send_signal(signal.SIGINT)
        last = [json.loads(line) for line in process.communicate(timeout=120)[0].splitlines()][-1]
    finally:
        process.kill()
        process.wait()
    files = sorted(int(path.stem.rpartition("-")[2]) for path in trace.glob("flows/**/*.parquet"))
    return Run(moments, last["lost"], files[-1] if files else 0)


def _moment(pid: int, trace: Path, made: int) -> Moment:
    sizes = []
    for folder, _, names in os.walk(trace):  # which passes over folders that are deleted meanwhile
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                sizes.append(Path(folder, name).stat().st_size)
    return Moment(
        resident(pid),
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        len(sizes),
        sum(sizes),
        made,
    )


def run(options: Options) -> Report:
    rotations = options.size(ROTATIONS, 30)
    report = Report(
        ["after rotations", "memory MB", "descriptors", "threads", "files of the trace", "MB of it", "files made"]
    )
    with scratch() as folder:
        command = [build(), "1", "10000000", str(PAYLOAD), str(PAYLOAD), str(CONNECTIONS_A_SECOND)]
        load = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        try:
            done = rotate(folder, rotations, KEEP, SOURCES)
        finally:
            load.kill()
            load.wait()
    for part in SHOWN:
        at = max(int(part * rotations), 1)
        one = done.moments[at - 1]
        report.rows.append([at, one.memory / 1e6, one.descriptors, one.threads, one.files, one.bytes / 1e6, one.made])
    first, last = _tenth(done.moments, 0.1), _tenth(done.moments, 0.9)
    growth = median([one.memory for one in last]) / median([one.memory for one in first]) - 1
    report.targets += [
        Target("rotations, as the last file is numbered", done.last, rotations - 1, at_least=True),
        Target("memory, last tenth over the second", growth * 100, 5, "% more"),
        Target("most memory", max(one.memory for one in done.moments) / 1e6, 120, "MB"),
        Target("descriptors, last tenth over the second", _most(last, "descriptors") - _most(first, "descriptors"), 0),
        Target("threads, last tenth over the second", _most(last, "threads") - _most(first, "threads"), 0),
        Target("most bytes of the trace, what is being written included", max(one.bytes for one in done.moments) / 1e6,
               KEEP / 1e6 * 1.25, "MB"),
        Target("events lost", done.lost, 0),
    ]  # fmt: skip
    report.notes.append(f"--keep-size {KEEP / 1e6:g}MB; {CONNECTIONS_A_SECOND} connections/s beside it.")
    return report


def _tenth(moments: list[Moment], begin: float) -> list[Moment]:
    start = int(begin * len(moments))
    return moments[start : start + max(len(moments) // 10, 1)]


def _most(moments: list[Moment], what: str) -> int:
    return max(getattr(one, what) for one in moments)
