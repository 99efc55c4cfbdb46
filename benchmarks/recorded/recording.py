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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from benchmarks.harness import CACHE, end_by_signals
from netrec import cli
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


def record(jobs: Sequence[tuple[str, str]], at_once: int = AT_ONCE) -> dict[str, str]:
    """Record those of (group, name) that are not there yet, each in a process of its own; name -> what went wrong."""
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
    return problems


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
