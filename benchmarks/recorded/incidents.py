"""Incidents recorded from real workloads: the right pattern first, and none on the clean time before them."""

from __future__ import annotations

import time

from benchmarks.harness import Options, Report, Target
from benchmarks.recorded.recording import SAMPLES, ask, folder, known, record, workloads
from sample_traces.sample import Sample

GROUP = "incident_workloads"
NO_INCIDENT = ("service", "port_scan", "ordinary_day", "own_programs")


def run(options: Options) -> Report:
    """Record every workload that has an incident, and ask for it; `quick` records one."""
    chosen: dict[tuple[str, str], Sample] = {
        (group, name): sample
        for group in (SAMPLES, GROUP)
        for name, sample in workloads(group).items()
        if name not in NO_INCIDENT
    }
    jobs = list(chosen)[: options.size(len(chosen), 1)]
    recording = record(jobs)
    start = time.monotonic()
    report = Report(["recorded", "pattern", "answered", "window begins after the incident", "clean time before"])
    right = named = 0
    recorded = [job for job in jobs if job[1] not in recording.problems]
    # A sample that came later and is not named above may know of none, either.
    done = [job for job in recorded if "incident" in known(next(iter(chosen[job].traces)))]
    for job in done:
        trace = next(iter(chosen[job].traces))
        incident, phases = known(trace)["incident"], known(trace)["phases"]
        phase = phases[incident["phase"]]
        told = ask("incident", folder(trace))
        clean = ask(
            "incident", folder(trace), "--since", phases["before"]["since"], "--until", phases["before"]["until"]
        )
        right += told["pattern"] == incident["pattern"]
        named += clean["pattern"] is not None
        window = told["window"]["since"] if told["window"] else "-"
        cells = [trace, incident["pattern"], told["pattern"] or "none", f"{phase['since']} / {window}"]
        report.rows.append([*cells, clean["pattern"] or "none"])
    report.targets = [
        Target("right pattern first", right / max(len(done), 1), 0.9, at_least=True),
        Target("patterns named in clean time", float(named), 0.0),
    ]
    report.notes = recording.notes(start)
    report.notes.append(
        "not recorded: a full connection-tracking table (its limit is the whole host's) and an asymmetric path (a "
        "socket counts both sides' packets)"
    )
    return report
