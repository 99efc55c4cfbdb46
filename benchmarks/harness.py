"""Whole processes measured, two ways of doing a thing compared in turns, and the result as a table."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benchmarks" / ".cache"
# The command that belongs to the Python that runs the benchmark.
NETREC = str(Path(sys.executable).with_name("netrec"))
# An installed netrec has its bytecode; where it may not be kept, every start would compile again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


class PeerMissing(Exception):
    """A program to compare with is not installed or does not run here; the report says so and goes on."""


@dataclass(frozen=True)
class Options:
    """How much to run: `quick` shrinks every workload to see that it works; its figures mean nothing.

    `large` adds the workloads that need gigabytes of disk.
    """

    quick: bool = False
    large: bool = False

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Measure:
    """One whole process: seconds of wall clock, user and system CPU (with the children it waited for), peak bytes."""

    wall: float
    user: float
    system: float
    memory: int
    output: str = ""

    @property
    def cpu(self) -> float:
        return self.user + self.system


@dataclass(frozen=True)
class Target:
    """A figure that must hold: `value` at most (or, with `at_least`, at least) `limit`."""

    what: str
    value: float
    limit: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def text(self) -> str:
        sign = ">=" if self.at_least else "<="
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{self.what}: {number(self.value)}{unit} (target {sign} {number(self.limit)}{unit}): "
            f"{'met' if self.met else 'MISSED'}"
        )


@dataclass
class Report:
    """What one benchmark found: a table, targets, and notes (what was run; what is missing)."""

    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self) | {"targets": [asdict(target) | {"met": target.met} for target in self.targets]}


def number(value: Any) -> str:
    """A figure as it is shown: three significant digits, whole numbers with separators."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return "-" if value is None else str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def measure(command: Sequence[str | Path], *, timeout: float = 300, check: bool = True, cwd: Path = ROOT) -> Measure:
    """Run to the end; its standard output is kept. Raises `RuntimeError` when it fails and `check`, or hangs."""
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], stdout=output, stderr=errors, cwd=cwd)
        status, usage = _wait(process, timeout)
        wall = time.perf_counter() - start
        output.seek(0)
        errors.seek(0)
        text = output.read()
        if check and status:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {status}: {errors.read()[-500:] or text[-500:]}")
    return Measure(wall, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, text)


_ended: list[int] = []


def end_by_signals() -> None:
    """From now on SIGTERM and SIGHUP end this process as an error does, so that what it began, namespaces, folders and
    programs, is ended and removed on the way out. The processes that it has started are ended with it.
    """

    def end(number: int, frame: object) -> None:
        _ended.append(number)
        for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # nothing interrupts the way out
            signal.signal(again, lambda number, frame: None)
        for child in _children(os.getpid()):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)


def ended() -> None:
    """Raises `SystemExit` when a signal has ended this process, whatever became of the first one on its way out."""
    if _ended:
        raise SystemExit(128 + _ended[0])


def _wait(process: subprocess.Popen[Any], timeout: float) -> tuple[int, Any]:
    """Exit status and resource usage of one child; kills it, and raises `RuntimeError`, when it takes too long."""
    if process.returncode is not None:  # it has been waited for: it ended before its time
        return process.returncode, resource.struct_rusage([0] * 16)
    timed_out: list[bool] = []

    def give_up(number: int, frame: object) -> None:
        timed_out.append(True)
        process.kill()

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    process.returncode = os.waitstatus_to_exitcode(status)
    if timed_out:
        raise RuntimeError(f"{process.args!r} did not end within {timeout:g} s")
    return process.returncode, usage


class Background:
    """A process that runs beside the workload; `stop` ends it with SIGINT and measures it whole."""

    def __init__(self, command: Sequence[str | Path], ready: Callable[[Background], bool], timeout: float = 30) -> None:
        # Closed with this object: the process keeps writing into them for as long as it lives.
        self.output: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.start = time.perf_counter()
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=self.output, stderr=self.errors, cwd=ROOT
        )
        while not ready(self):
            if self.process.poll() is not None or time.perf_counter() - self.start > timeout:
                self.kill()
                raise PeerMissing(f"{command[0]} does not run here: {self.text()[-300:].strip() or 'no output'}")
            time.sleep(0.002)
        self.ready_after = time.perf_counter() - self.start

    def text(self) -> str:
        """What it has printed so far, on both streams (through the file's own offset: the process keeps appending)."""
        return "".join(
            os.pread(stream.fileno(), 1 << 24, 0).decode(errors="replace") for stream in (self.output, self.errors)
        )

    def resident(self) -> int:
        """Bytes resident now: `resident` of it."""
        return resident(self.process.pid)

    def stop(self, timeout: float = 60) -> Measure:
        self.process.send_signal(signal.SIGINT)
        _, usage = _wait(self.process, timeout)
        return Measure(
            time.perf_counter() - self.start, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, self.text()
        )

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def resident(pid: int) -> int:
    """Bytes resident now, in a process and its descendants; a page that they share counts once (PSS)."""
    return sum(_resident(one, "Pss:") for one in _family(pid))


def anonymous(pid: int) -> int:
    """Of these, what they have allocated: without the pages of files, which come, go and are shared as the kernel and
    other processes of the host will."""
    return sum(_resident(one, "Pss_Anon:") for one in _family(pid))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in _children(pid):
        yield from _family(child)


def _resident(pid: int, what: str) -> int:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith(what)), 0)


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every way once a round, each round starting with another one: what drifts hits all of them alike."""
    names = list(ways)
    results: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(ways[name]())
    return results


def beside(
    block: Callable[[bool], dict[str, float]], pairs: int, seconds: float, fewest: int = 3
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Blocks of work with a recorder (True) and without one take turns; figures by name, as (with, without).

    Each block with it is compared with the mean of its two neighbours without, so that what else the machine does at
    the time falls on either side alike. No more pairs begin after so many seconds, but there are always the `fewest`.
    """
    block(False)  # warm
    done, end = [block(False)], time.monotonic() + seconds
    while len(done) < 2 * pairs and (time.monotonic() < end or len(done) < 2 * fewest):
        done += [block(True), block(False)]
    return [
        (done[at], {name: (done[at - 1][name] + done[at + 1][name]) / 2 for name in done[at]})
        for at in range(1, len(done), 2)
    ]


def interval(values: Sequence[float]) -> str:
    """95% interval of the median, by resampling (2,000 times, always the same)."""
    draws = np.random.default_rng(1).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{low:.1f}..{high:.1f}"


def ratios(results: dict[str, list[float]], name: str, baseline: str) -> list[float]:
    """One ratio a round."""
    return [value / base for value, base in zip(results[name], results[baseline], strict=True)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """`lowest..highest`, beside a median."""
    return f"{number(min(values))}..{number(max(values))}"


def peer(program: str) -> str:
    """The path of a program to compare with; raises `PeerMissing` when it is not installed."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if not path:
        raise PeerMissing(f"{program} is not installed")
    return path


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="netrec-benchmark-") as folder:
        yield Path(folder)


def json_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects among the lines of a text."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return found
