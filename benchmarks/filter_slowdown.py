"""What a filter costs that matches nothing: slowdown of short connections, and the programs' time in the kernel.

Short loads with the recorder and without take turns; each is compared with its two neighbours. The share of
the kernel's programs is measured apart: their run time, as they measure it themselves, over the load's time, for
filters that are decided by addresses, by a client's port and by the owner, and without one. The load makes as many
connections as it can over loopback, one after the other, all on one core.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.churn import block, in_kernel, netrec
from benchmarks.harness import Options, Report, Target, beside, interval, median, scratch

CONNECTIONS = 6_000
PAIRS, LONGEST_SECONDS = 60, 120
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
    connections = options.size(CONNECTIONS, 1_000)

    watcher = netrec(trace, "--filter", FILTERS[JUDGED])

    def one_block(recorded: bool) -> dict[str, float]:
        return block(watcher if recorded else None, "one pair", connections, 1)

    pairs = beside(one_block, options.size(PAIRS, 1), LONGEST_SECONDS, options.size(4, 1))
    slower = [(alone["rate"] / one["rate"] - 1) * 100 for one, alone in pairs]
    cpu = [(one["cpu"] / alone["cpu"] - 1) * 100 for one, alone in pairs]
    report.rows += [
        ["connections per second without a recorder", median([alone["rate"] for _, alone in pairs]), "", "1/s"],
        [f"slowdown with --filter '{FILTERS[JUDGED]}'", median(slower), interval(slower), "%"],
        ["more CPU in the load", median(cpu), interval(cpu), "%"],
    ]
    report.targets += [
        Target("slowdown with a filter that matches nothing, median", median(slower), LIMIT, "%"),
        Target("more CPU in the load with it, median", median(cpu), LIMIT, "%"),
    ]
    report.notes.append(f"{len(pairs)} pairs of {connections:,} connections each.")


def _in_kernel(report: Report, options: Options, trace: Path, name: str, text: str) -> None:
    cost = in_kernel(trace, options.size(10 * CONNECTIONS, 1_000), *(["--filter", text] if text else []))
    report.rows += [
        [f"programs in the kernel, filter {name}", cost.us_per_connection, "", "us/connection"],
        ["share of the load's time", cost.share, "", "%"],
    ]
    if name == JUDGED:
        report.notes.append(f"With this filter {cost.rows:,} rows were written.")
