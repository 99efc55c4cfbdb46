"""What `--events` costs short connections on top of recording them: slowdown, and the programs' time in the kernel.

Blocks of short loads beside a recorder with --events and beside one without take turns; each is compared with its two
neighbours. The time in the kernel is measured apart, in turns too, by the programs themselves.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.churn import block, in_kernel, netrec
from benchmarks.harness import Options, Report, Target, beside, in_turns, interval, median, scratch, spread

CONNECTIONS, LOADS_A_BLOCK = 5_000, 3
PAIRS, LONGEST_SECONDS = 15, 60
ROUNDS, LIMIT = 5, 1.5
WAYS: dict[str, tuple[str, ...]] = {"without": (), "with --events": ("--events",)}


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval or lowest..highest", "unit"])
    with scratch() as folder:
        _slowdown(report, options, folder / "slowdown")
        connections = options.size(10 * CONNECTIONS, 1_000)
        turn = iter(range(1000))

        def once(name: str) -> float:
            return in_kernel(folder / f"turn-{next(turn)}", connections, *WAYS[name]).us_per_connection

        results = in_turns({name: lambda name=name: once(name) for name in WAYS}, options.size(ROUNDS, 1))  # type: ignore[misc]
        for name, values in results.items():
            report.rows.append([f"programs in the kernel, {name}", median(values), spread(values), "us/connection"])
        more = [one - other for one, other in zip(results["with --events"], results["without"], strict=True)]
        report.rows.append(["of that, for --events", median(more), spread(more), "us/connection"])
        report.targets.append(
            Target("programs of --events in the kernel, median", median(more), LIMIT, "us/connection")
        )
    return report


def _slowdown(report: Report, options: Options, trace: Path) -> None:
    connections, loads = options.size(CONNECTIONS, 1_000), options.size(LOADS_A_BLOCK, 1)

    def one_block(events: bool) -> dict[str, float]:
        return block(netrec(trace, *WAYS["with --events" if events else "without"]), "one pair", connections, loads)

    pairs = beside(one_block, options.size(PAIRS, 1), LONGEST_SECONDS, options.size(4, 1))
    slower = [(other["rate"] / one["rate"] - 1) * 100 for one, other in pairs]
    cpu = [one["cpu"] - other["cpu"] for one, other in pairs]
    report.rows += [
        ["connections per second, recorded without events", median([one["rate"] for _, one in pairs]), "", "1/s"],
        ["slower with --events", median(slower), interval(slower), "%"],
        ["more CPU of the load, both ends", median(cpu), interval(cpu), "us/connection"],
    ]
    report.notes.append(f"{len(pairs)} pairs of {loads} loads of {connections:,} connections.")
