"""What recording costs the recorded: slowdown of short connections over loopback, netrec beside its peers.

Each run with a recorder is paired with one without, in turns; the figure is the median over the pairs. Two loads: one
client and server that wait for each other (the usual way to count connections per second), and two pairs, which
leave no idle time on two cores: whatever the recorder takes, they miss.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.churn import LOADS, Watcher, churn, measured_beside, watchers
from benchmarks.harness import Options, PeerMissing, Report, Target, median, scratch, spread

ROUNDS = 5
CONNECTIONS = {"one pair": 30_000, "two pairs": 80_000}
LIMIT = 8.0


@dataclass(frozen=True)
class Pair:
    """Connections per second alone and with a recorder, what the recorder took (CPU us per connection, its start
    included), and how much more CPU the load itself took per connection (%)."""

    alone: float
    watched: float
    cpu_us: float
    load_cpu: float

    @property
    def slowdown(self) -> float:
        """In %."""
        return (self.alone / self.watched - 1) * 100


def pair_up(pairs: int, connections: int, watcher: Watcher, watched_first: bool) -> Pair:
    """One run with the recorder and one without."""
    before = None if watched_first else churn(pairs, connections)
    watched, process = measured_beside(watcher, pairs, connections)
    alone = before or churn(pairs, connections)
    load_cpu = (watched["cpu_seconds"] / alone["cpu_seconds"] - 1) * 100
    return Pair(alone["per_second"], watched["per_second"], process.cpu / connections * 1e6, load_cpu)


def run(options: Options) -> Report:
    report = Report(
        [
            "load",
            "recorder",
            "connections/s alone",
            "with it",
            "slowdown %, median",
            "lowest..highest",
            "more CPU in the load %",
            "its own CPU us/connection",
        ]
    )
    with scratch() as folder:
        found, report.notes = watchers(folder)
        for load, full in CONNECTIONS.items():
            _one_load(report, load, options.size(full, 2000), options.size(ROUNDS, 1), found, folder)
    return report


def _one_load(report: Report, load: str, connections: int, rounds: int, found: list[Watcher], folder: Path) -> None:
    churn(LOADS[load], connections)  # warm
    results: dict[str, list[Pair]] = {watcher.name: [] for watcher in found}
    failed: dict[str, str] = {}
    for turn in range(rounds):
        for watcher in found:
            if watcher.name in failed:
                continue
            try:
                results[watcher.name].append(pair_up(LOADS[load], connections, watcher, turn % 2 == 1))
            except (PeerMissing, RuntimeError) as problem:
                failed[watcher.name] = str(problem)
            (folder / "tcpdump.pcap").unlink(missing_ok=True)
    for name, pairs in results.items():
        if not pairs:
            continue
        slowdowns = [pair.slowdown for pair in pairs]
        rates = [median([pair.alone for pair in pairs]), median([pair.watched for pair in pairs])]
        cpu = median([pair.cpu_us for pair in pairs])
        load_cpu = median([pair.load_cpu for pair in pairs])
        report.rows.append([load, name, *rates, median(slowdowns), spread(slowdowns), load_cpu, cpu])
        if name == "netrec" and load == "one pair":
            report.targets.append(Target(f"slowdown of {load}, median", median(slowdowns), LIMIT, "%"))
    report.notes += [f"{load}: {name} left out: {why}" for name, why in failed.items()]
    report.notes.append(f"{load}: {rounds} pairs of runs of {connections:,} connections for each recorder")
