"""What a filter costs that matches nothing: slowdown of short connections, and the programs' time in the kernel.

Short loads with the recorder and without take turns; each is compared with its two neighbours. The load makes
connections over loopback, one after the other, all on one core: 12,000 a second, or as many as it can where that is
less, and then as many as it can. The share of the kernel's programs is measured apart: their run time, as they measure
it themselves, over the load's time, for filters that are decided by addresses, by a client's port and by the owner, and
without one.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.churn import LOADS, block, connections_in, in_kernel, netrec
from benchmarks.harness import Options, Report, Target, beside, interval, median, scratch

RATE = 12_000
BLOCK_SECONDS, QUICK_CONNECTIONS = 0.5, 1_000
PAIRS, LONGEST_SECONDS = 60, 90
LIMIT = 2.0
FILTERS = {
    "none": "",
    "by addresses": "host 203.0.113.9",
    "by a port": "port 1",
    "by the owner": "process no-such-program",
}
JUDGED = "by addresses"


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval", "unit"])
    with scratch() as folder:
        _slowdown(report, options, folder / "slowdown")
        for name, text in FILTERS.items():
            _in_kernel(report, options, folder / name.replace(" ", "-"), name, text)
    return report


def _slowdown(report: Report, options: Options, trace: Path) -> None:
    watcher = netrec(trace, "--filter", FILTERS[JUDGED])
    most = QUICK_CONNECTIONS if options.quick else connections_in(LOADS["one pair"], BLOCK_SECONDS)
    for name, rate in ((f"{RATE:,} connections a second", RATE), ("as many as it can", 0)):
        connections = min(most, options.size(round(RATE * BLOCK_SECONDS), QUICK_CONNECTIONS)) if rate else most

        def one_block(recorded: bool, connections: int = connections, rate: int = rate) -> dict[str, float]:
            return block(watcher if recorded else None, "one pair", connections, 1, rate)

        pairs = beside(one_block, options.size(PAIRS, 1), LONGEST_SECONDS, options.size(4, 1))
        slower = [(alone["rate"] / one["rate"] - 1) * 100 for one, alone in pairs]
        more = [one["cpu"] - alone["cpu"] for one, alone in pairs]
        core = [us * alone["rate"] / 1e4 for us, (_, alone) in zip(more, pairs, strict=True)]
        report.rows += [
            [f"{name}: per second without a recorder", median([alone["rate"] for _, alone in pairs]), "", "1/s"],
            [f"slowdown with --filter '{FILTERS[JUDGED]}'", median(slower), interval(slower), "%"],
            ["more CPU in the load", median(more), interval(more), "us/connection"],
            ["of a core, at that rate", median(core), interval(core), "%"],
        ]
        report.notes.append(f"{name}: {len(pairs)} pairs of {connections:,} connections each.")
        if rate:
            report.targets += [
                Target(f"slowdown at {name}, filter that matches nothing", median(slower), LIMIT, "%"),
                Target("of a core, more CPU in the load then", median(core), LIMIT, "%"),
            ]


def _in_kernel(report: Report, options: Options, trace: Path, name: str, text: str) -> None:
    cost = in_kernel(trace, options.size(60_000, 1_000), *(["--filter", text] if text else []))
    report.rows += [
        [f"programs in the kernel, filter {name}", cost.us_per_connection, "", "us/connection"],
        ["share of the load's time", cost.share, "", "%"],
    ]
    if name == JUDGED:
        report.notes.append(f"With this filter {cost.rows:,} rows were written.")
