"""Records workloads for a benchmark, several at a time, below benchmarks/.cache/recorded."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.harness import CACHE
from sample_traces.sample import Sample, discover, play

FOLDER = CACHE / "recorded"
AT_ONCE = 3  # they mostly wait
SAMPLES = "samples"


def workloads(group: str) -> dict[str, Sample]:
    """The workloads of a group: those of the sample traces, or `WORKLOADS` of a module of this package."""
    if group == SAMPLES:
        return discover()
    found: dict[str, Sample] = importlib.import_module(f"{__package__}.{group}").WORKLOADS
    return found


def record(jobs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Record these (group, name) anew, each in a process of its own; name -> what went wrong."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    problems: dict[str, str] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(AT_ONCE, mp_context=context, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(_record, *job): job[1] for job in jobs}
        for done in as_completed(waiting):
            name, problem = waiting[done], done.exception()
            if problem is not None:
                problems[name] = f"{type(problem).__name__}: {problem}"
            print(f"{name}: {problems.get(name, 'recorded')}", file=sys.stderr, flush=True)
    return problems


def known(trace: str) -> dict[str, Any]:
    """What the workload knew of a trace."""
    found: dict[str, Any] = json.loads((FOLDER / trace / "known.json").read_text())
    return found


def folder(trace: str) -> Path:
    """Where a trace was recorded."""
    return FOLDER / trace


def _record(group: str, name: str) -> None:
    play(workloads(group)[name], FOLDER)
