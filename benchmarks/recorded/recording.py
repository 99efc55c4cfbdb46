"""Records workloads for a benchmark, several at a time, below benchmarks/.cache/recorded, and asks netrec about them.

What is there already is not recorded again: delete the folder of a trace to have it anew.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import CACHE, end_by_signals
from netrec import cli
from sample_traces.sample import Sample, discover, play

FOLDER = CACHE / "recorded"
AT_ONCE = 3  # they mostly wait
SAMPLES = "samples"


@dataclass(frozen=True)
class Recorded:
    """What `record` did: `problems` by the name of a workload, how many it recorded, in how many seconds."""

    problems: dict[str, str]
    fresh: int
    seconds: float

    def notes(self, asked_since: float) -> list[str]:
        """What was not recorded, and how long it all took; the questions were asked from a `time.monotonic` on."""
        notes = [f"{name} was not recorded: {problem}" for name, problem in self.problems.items()]
        recorded = f"recorded {self.fresh} in {self.seconds:.0f} s" if self.fresh else "all was recorded before"
        return [*notes, f"{recorded}; the questions took {time.monotonic() - asked_since:.0f} s"]


def workloads(group: str) -> dict[str, Sample]:
    """The workloads of a group: those of the sample traces, or `WORKLOADS` of a module of this package."""
    if group == SAMPLES:
        return discover()
    found: dict[str, Sample] = importlib.import_module(f"{__package__}.{group}").WORKLOADS
    return found


def record(jobs: Sequence[tuple[str, str]], at_once: int = AT_ONCE) -> Recorded:
    """Record those of (group, name) that are not there yet, each in a process of its own."""
    start = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems: dict[str, str] = {}
    # known.json is written last: a recording that has none was given up.
    missing = [
        (group, name)
        for group, name in jobs
        if not all((folder(trace) / "known.json").exists() for trace in workloads(group)[name].traces)
    ]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_once, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(_record, *job): job[1] for job in missing}
        for done in as_completed(waiting):
            name, problem = waiting[done], done.exception()
            if problem is not None:
                problems[name] = f"{type(problem).__name__}: {problem}"
            print(f"{name}: {problems.get(name, 'recorded')}", file=sys.stderr, flush=True)
    return Recorded(problems, len(missing), time.monotonic() - start)


def known(trace: str) -> dict[str, Any]:
    """What the workload knew of a trace."""
    found: dict[str, Any] = json.loads((FOLDER / trace / "known.json").read_text())
    return found


def folder(trace: str) -> Path:
    """Where a trace was recorded."""
    return FOLDER / trace


def ask(analysis: str, *arguments: str | Path) -> dict[str, Any]:
    """The answer of `netrec analyze`, as JSON, in this process; raises `RuntimeError` when there is none."""
    given = ["analyze", analysis, *map(str, arguments), "--format", "json"]
    printed, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            cli.main(given)
    except SystemExit as ended:
        if ended.code == 2:
            raise RuntimeError(f"netrec {' '.join(given)}: {errors.getvalue()}") from None
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


def _record(group: str, name: str) -> None:
    end_by_signals()
    play(workloads(group)[name], FOLDER)
