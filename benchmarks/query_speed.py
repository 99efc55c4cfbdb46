"""Time to name the top talkers of 10 million flows, whole process, against nfdump on the same flows.

Both read files that are in the page cache. `top-talkers` runs on the complete trace, with all its columns (it sums
retransmits, too, which nfdump does not know); once also on a trace that holds only what nfdump's file does.
"""

from __future__ import annotations

import os

from benchmarks.flow_history import history
from benchmarks.harness import NETREC, Measure, Options, PeerMissing, Report, Target, measure, median, peer

FLOWS = 10_000_000
ROUNDS = 7
# What is asked: netrec's --by, and nfdump's arguments for the same answer.
QUESTIONS = {
    "client": ["-s", "srcip/bytes", "-n", "10"],
    "service": ["-s", "dstport/bytes", "-n", "10"],
    "pair": ["-A", "srcip,dstip", "-s", "record/bytes", "-n", "10"],
}
JUDGED = "client"


def run(options: Options) -> Report:
    flows = options.size(FLOWS, 200_000)
    data = history(flows)
    report = Report(["top 10 by", "netrec wall s", "netrec CPU s", "nfdump wall s", "nfdump CPU s", "wall ratio"])
    report.notes.append(data.note)
    nfdump = peer("nfdump") if data.nfdump else ""
    asked = [(by, by, data.trace) for by in QUESTIONS] + [(f"{JUDGED}, as much as nfdump", JUDGED, data.plain)]
    for name, by, trace in asked:
        arguments = QUESTIONS[by]
        ways = {"netrec": [NETREC, "analyze", "top-talkers", str(trace), "--by", by, "-n", "10", "--format", "csv"]}
        if nfdump:
            ways["nfdump"] = [nfdump, "-r", str(data.nfdump), *arguments]
        taken: dict[str, list[Measure]] = {way: [] for way in ways}
        measure(ways["netrec"])  # the files come into the page cache
        for _ in range(options.size(ROUNDS, 1)):
            for way, command in ways.items():
                taken[way].append(measure(command))
        wall = {way: median([one.wall for one in each]) for way, each in taken.items()}
        cpu = {way: median([one.cpu for one in each]) for way, each in taken.items()}
        ratio = (
            median([a.wall / b.wall for a, b in zip(taken["netrec"], taken["nfdump"], strict=True)]) if nfdump else None
        )
        report.rows.append([name, wall["netrec"], cpu["netrec"], wall.get("nfdump"), cpu.get("nfdump"), ratio])
        if name == JUDGED and ratio is not None:
            report.targets.append(Target("wall time of top-talkers against nfdump -s srcip/bytes", ratio, 0.5, "x"))
    report.notes.append(f"{os.cpu_count()} cores; medians of {options.size(ROUNDS, 1)} rounds")
    if not nfdump:
        raise PeerMissing(data.note)
    return report
