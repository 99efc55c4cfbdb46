"""Time and memory of the analyses and of the large queries, whole process, on 10 million flows (--large: on 100).

The 10 million flows are one day of one host; compare holds its second half against its first. The 100 million are ten
such days. Both lie in the page cache as far as the machine has room. The targets are for two cores.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from pathlib import Path

from benchmarks.flow_history import DAY, START, digest
from benchmarks.harness import CACHE, NETREC, Measure, Options, Report, Target, measure, median
from recorder.sources.synthetic.history import write_history

FLOWS_PER_DAY = 10_000_000
DAYS = 10
ROUNDS = 3
MEMORY = 1e9
# On 10 million flows: seconds allowed (None: no promise).
DAY_QUESTIONS: dict[str, tuple[list[str], float | None]] = {
    "compare": (["compare", "--baseline", "2026-03-02T00:00/12:00", "--candidate", "2026-03-02T12:00/+12h"], 5.0),
    "incident": (["incident"], 5.0),
    "incident --window": (["incident", "--window", "2026-03-02T14:00/14:30"], 5.0),
    "capacity": (["capacity"], 5.0),
    "top-talkers": (["top-talkers"], None),
    "timeline": (["timeline"], None),
    "summary": (["summary"], None),
}
# On 100 million.
LONG_QUESTIONS: dict[str, tuple[list[str], float | None]] = {
    "top-talkers": (["top-talkers"], 10.0),
    "timeline": (["timeline"], 10.0),
    "capacity": (["capacity"], 10.0),
}


def trace(days: int, flows_per_day: int) -> Path:
    """A trace of so many days of flows, from the cache or made now, two days at a time."""
    kept = CACHE / f"days-{days}-{flows_per_day}"
    folder = kept / digest()
    stamp = folder / "complete.json"
    if not stamp.exists():
        shutil.rmtree(kept, ignore_errors=True)
        folder.mkdir(parents=True)
        with ProcessPoolExecutor(2) as pool:
            for done in [pool.submit(_make_day, folder / "trace", day, flows_per_day) for day in range(days)]:
                done.result()
        stamp.write_text(json.dumps({"flows": days * flows_per_day}))
    return folder / "trace"


def _make_day(folder: Path, day: int, flows: int) -> None:
    start = START + timedelta(days=day)
    write_history(folder, flows, start=start, duration=DAY, seed=day + 1, host="benchmark", daily_swing=0.5)


def run(options: Options) -> Report:
    flows = options.size(FLOWS_PER_DAY, 200_000)
    report = Report(["question", "flows", "wall s", "CPU s", "peak MB"])
    short = _ask(report, trace(1, flows), flows, DAY_QUESTIONS, options)
    if options.large:
        long = _ask(report, trace(DAYS, flows), DAYS * flows, LONG_QUESTIONS, options)
        for name in long:
            growth = long[name].cpu / short[name].cpu / DAYS
            report.targets.append(Target(f"{name}: growth of CPU over growth of flows", growth, 1.05, "x"))
    report.notes.append(f"{os.cpu_count()} cores; medians of {options.size(ROUNDS, 1)} rounds")
    if not options.large:
        report.notes.append("100 million flows: python -m benchmarks analysis_speed --large (takes 3 GB of disk)")
    return report


def _ask(
    report: Report, folder: Path, flows: int, questions: dict[str, tuple[list[str], float | None]], options: Options
) -> dict[str, Measure]:
    """Every question in turns; a row and its targets each."""
    taken: dict[str, list[Measure]] = {name: [] for name in questions}
    for _ in range(options.size(ROUNDS, 1)):
        for name, (words, _) in questions.items():
            command = [NETREC, "analyze", words[0], str(folder), *words[1:], "--utc", "--format", "json"]
            taken[name].append(measure(command, check=False))
    result = {}
    for name, (_, limit) in questions.items():
        each = taken[name]
        one = Measure(
            median([m.wall for m in each]), median([m.user for m in each]), median([m.system for m in each]),
            round(median([float(m.memory) for m in each])),
        )  # fmt: skip
        if not each[0].output:
            raise RuntimeError(f"{name} gave no answer")
        report.rows.append([name, flows, one.wall, one.cpu, one.memory / 1e6])
        if limit:
            report.targets.append(Target(f"{name}, {flows:,} flows", one.wall, limit, "s"))
            report.targets.append(Target(f"{name}, {flows:,} flows, memory", one.memory / 1e6, MEMORY / 1e6, "MB"))
        result[name] = one
    return result
