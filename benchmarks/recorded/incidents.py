"""Incidents recorded anew from real workloads: the right pattern first, and none on the clean time before them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from benchmarks.harness import NETREC, Options, Report, Target
from benchmarks.recorded.recording import SAMPLES, folder, known, record, workloads
from sample_traces.sample import Sample

GROUP = "incident_workloads"


def run(options: Options) -> Report:
    """Record every workload that has an incident, and ask for it; `quick` records one."""
    chosen: dict[tuple[str, str], Sample] = {
        (group, name): sample
        for group in (SAMPLES, GROUP)
        for name, sample in workloads(group).items()
        if name not in ("service", "port_scan")
    }
    jobs = list(chosen)[: options.size(len(chosen), 1)]
    problems = record(jobs)
    report = Report(["recorded", "pattern", "answered", "window begins after the incident", "clean time before"])
    right = named = 0
    done = [job for job in jobs if job[1] not in problems]
    for job in done:
        trace = next(iter(chosen[job].traces))
        incident, phases = known(trace)["incident"], known(trace)["phases"]
        phase = phases[incident["phase"]]
        told = _ask(trace)
        clean = _ask(trace, "--since", phases["before"]["since"], "--until", phases["before"]["until"])
        right += told["pattern"] == incident["pattern"]
        named += clean["pattern"] is not None
        window = told["window"]["since"] if told["window"] else "-"
        cells = [trace, incident["pattern"], told["pattern"] or "none", f"{phase['since']} / {window}"]
        report.rows.append([*cells, clean["pattern"] or "none"])
    report.targets = [
        Target("right pattern first", right / max(len(done), 1), 0.9, at_least=True),
        Target("patterns named in clean time", float(named), 0.0),
    ]
    report.notes = [f"{name} was not recorded: {problem}" for name, problem in problems.items()]
    report.notes.append(
        "not recorded: a full connection-tracking table (its limit is the whole host's) and an asymmetric path (a "
        "socket counts both sides' packets)"
    )
    return report


def _ask(trace: str, *window: str) -> dict[str, Any]:
    command = [NETREC, "analyze", "incident", str(folder(trace)), "--format", "json", *window]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
