"""What recording UDP costs the recorded and the recorder, and whether 20,000 new flows a second are all there.

Blocks with the recorder and without take turns; figures are medians over the blocks. The load keeps to 100,000
datagrams a second by deadlines: what a recorder costs it shows as a lower rate only where no CPU time is left, else as
deadlines missed and CPU time. The last rows are what short TCP connections pay for what is recorded beside TCP: run
beside run with --protocols tcp.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.churn import LOADS, churn, netrec
from benchmarks.harness import (
    CACHE,
    ROOT,
    Options,
    Report,
    Target,
    beside,
    in_turns,
    interval,
    measure,
    median,
    peer,
    ratios,
    scratch,
    spread,
)

DATAGRAMS, PAYLOAD = 30_000, 200
PACED, BLOCKS, LOADS_A_BLOCK = 100_000, 8, 4
# On a busy machine: no more turns after so long, but the fewest.
LONGEST_SECONDS, FEWEST = 60, 3
# A little more than must be recorded a second, so that it is not the load that falls short.
RATE, LEAST_RATE, NEW_FLOWS = 21_000, 20_000, 100_000
CONNECTIONS = 10_000
ROUNDS = 3
WAYS = {
    "tcp": ("--protocols", "tcp"),
    "tcp,udp,icmp": ("--protocols", "tcp,udp,icmp"),
    "tcp and --events": ("--protocols", "tcp", "--events"),
}


def build() -> Path:
    """The compiled load generator; raises `PeerMissing` without a C compiler."""
    source, program = ROOT / "benchmarks" / "datagrams.c", CACHE / "datagrams"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        subprocess.run([peer("gcc"), "-O2", "-pthread", "-o", program, source], check=True, capture_output=True)
    return program


def load(datagrams: int, peers: int, rate: int) -> dict[str, Any]:
    """Run the load to its end: sent, received, per_second, bursts, missed (deadlines of bursts), cpu_seconds, port."""
    return json.loads(measure([build(), str(datagrams), str(peers), str(rate), str(PAYLOAD)]).output)


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval or lowest..highest", "unit"])
    with scratch() as folder:
        _new_flows(report, options, folder / "flows")
        _slowdown(report, options, folder)
        _connections(report, options, folder)
    return report


def _slowdown(report: Report, options: Options, folder: Path) -> None:
    """Short loads, beside a recorder and without one, in blocks that take turns."""
    blocks, loads = options.size(BLOCKS, FEWEST), options.size(LOADS_A_BLOCK, 1)
    datagrams = options.size(DATAGRAMS, 5_000)

    def block(recorded: bool) -> dict[str, float]:
        running = netrec(folder / "slowdown", "--protocols", "udp").start() if recorded else None
        try:
            paced, flat_out = zip(
                *((load(datagrams, 1, PACED), load(datagrams, 1, 0)) for _ in range(loads)), strict=True
            )
        finally:
            if running:
                running.stop()
        return {
            "rate": median([one["per_second"] for one in paced]),
            "missed": median([one["missed"] / one["bursts"] * 100 for one in paced]),
            "cpu": median([one["cpu_seconds"] / datagrams * 1e6 for one in (*paced, *flat_out)]),
            "most": median([one["per_second"] for one in flat_out]),
        }

    pairs = beside(block, blocks, LONGEST_SECONDS, FEWEST)
    slower = [(alone["rate"] / one["rate"] - 1) * 100 for one, alone in pairs]
    most = [(alone["most"] / one["most"] - 1) * 100 for one, alone in pairs]
    missed = [one["missed"] - alone["missed"] for one, alone in pairs]
    cpu = [(one["cpu"] / alone["cpu"] - 1) * 100 for one, alone in pairs]
    each = [one["cpu"] - alone["cpu"] for one, alone in pairs]
    alone = {name: median([one[name] for _, one in pairs]) for name in pairs[0][1]}
    report.notes.append(f"{len(pairs)} pairs of {loads} loads of {datagrams:,} datagrams at each rate.")
    report.rows += [
        [f"datagrams per second without a recorder, asked for {PACED:,}", alone["rate"], "", "1/s"],
        ["slowdown of that", median(slower), interval(slower), "%"],
        ["deadlines of it missed without a recorder", alone["missed"], "", "%"],
        ["missed beside one, more", median(missed), interval(missed), "% of all"],
        ["datagrams per second without a recorder, as fast as they go", alone["most"], "", "1/s"],
        ["slowdown of that", median(most), interval(most), "%"],
        ["CPU of the load per datagram without a recorder, both ends", alone["cpu"], "", "us"],
        ["beside one, more", median(each), interval(each), "us"],
        ["beside one, more", median(cpu), interval(cpu), "%"],
    ]
    if alone["rate"] >= PACED * 0.98:
        report.targets.append(Target(f"slowdown of {PACED:,} datagrams/s, median", median(slower), 5.0, "%"))
    else:
        report.notes.append(
            f"Not judged: slowdown of {PACED:,} datagrams/s (target <= 5 %). This machine had no room for so many "
            "without a recorder either: what holds is the CPU time."
        )


def _new_flows(report: Report, options: Options, trace: Path) -> None:
    flows = options.size(NEW_FLOWS, 5_000)
    running = netrec(trace, "--protocols", "udp").start()
    try:
        before = running.resident()
        done = load(flows, flows, RATE)
        time.sleep(1.5)
        memory = running.resident()
        whole = running.stop()
    finally:
        running.kill()
    connection = duckdb.connect()
    found = connection.execute(
        f"""select count(distinct server_address), sum(client_bytes), sum(client_packets), count(*)
        from read_parquet('{trace}/flows/**/*.parquet') where server_port = {done["port"]} group by role"""
    ).fetchall()
    health = f"read_parquet('{trace}/health/**/*.parquet')"
    (lost,) = connection.execute(f"select coalesce(sum(events_lost), 0) from {health}").fetchone() or (0,)
    rows = sum(row[3] for row in found)
    exact = sum(row[:3] == (flows, flows * PAYLOAD, flows) for row in found)
    missing = 2 * flows - sum(int(row[2]) for row in found)
    report.rows += [
        [f"new flows per second, asked for {RATE:,}", done["per_second"], "", "1/s"],
        ["flow rows of them (both ends)", rows, "", "rows"],
        ["ends with exactly all flows, bytes and packets", exact, "", "of 2"],
        ["packets of them that were not recorded", missing, "", ""],
        ["packets lost on the host, as the recorder says", int(lost), "", ""],
        ["user CPU per row, start and stop included", whole.user / max(rows, 1) * 1e6, "", "us"],
        ["resident memory, before and after", memory / 1e6, f"{before / 1e6:.0f}..{memory / 1e6:.0f}", "MB"],
    ]
    report.targets += [
        Target("new flows per second", done["per_second"], LEAST_RATE, "1/s", at_least=True),
        Target("ends with exactly all flows, bytes and packets", exact, 2, at_least=True),
        Target("packets neither recorded nor counted as lost", max(missing - int(lost), 0), 0),
        Target("resident memory", memory / 1e6, 120, "MB"),
    ]


def _connections(report: Report, options: Options, folder: Path) -> None:
    connections = options.size(CONNECTIONS, 2_000)

    def once(name: str) -> float:
        running = netrec(folder / name.replace(",", "-"), *WAYS[name]).start()
        try:
            return churn(LOADS["one pair"], connections)["per_second"]
        finally:
            running.stop()

    results = in_turns({name: lambda name=name: once(name) for name in WAYS}, options.size(ROUNDS, 1))  # type: ignore[misc]
    for name in list(WAYS)[1:]:
        slower = [(1 / ratio - 1) * 100 for ratio in ratios(results, name, "tcp")]
        report.rows.append(
            [f"short TCP connections: slower with {name} than with tcp", median(slower), spread(slower), "%"]
        )
