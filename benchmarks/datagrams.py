"""What recording UDP costs the recorded and the recorder, and whether 20,000 new flows a second are all there.

Blocks with the recorder and without take turns; figures are medians over the blocks. The last rows are what
short TCP connections pay for what is recorded beside TCP: run beside run with --protocols tcp.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.churn import LOADS, churn, netrec
from benchmarks.harness import (
    CACHE,
    ROOT,
    Options,
    Report,
    Target,
    in_turns,
    measure,
    median,
    peer,
    ratios,
    scratch,
    spread,
)

DATAGRAMS, PAYLOAD = 100_000, 200
PACED, BLOCKS, BURSTS = 100_000, 9, 3
RATE, NEW_FLOWS = 20_000, 100_000
CONNECTIONS = 30_000
ROUNDS = 5
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
    """Run the load to its end: sent, received, seconds, per_second, cpu_seconds, port."""
    return json.loads(measure([build(), str(datagrams), str(peers), str(rate), str(PAYLOAD)]).output)


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval or lowest..highest", "unit"])
    with scratch() as folder:
        _slowdown(report, options, folder)
        _new_flows(report, options, folder / "flows")
        _connections(report, options, folder)
    return report


def _slowdown(report: Report, options: Options, folder: Path) -> None:
    """Short bursts, beside a recorder and without one, in blocks that take turns; each block is compared with both its
    neighbours, so that what else the machine does at the time falls on either side alike."""
    blocks, bursts = options.size(BLOCKS, 3), options.size(BURSTS, 1)
    paced, flat_out = options.size(PACED // 2, 2_000), options.size(DATAGRAMS, 20_000)

    def block(recorded: bool) -> dict[str, float]:
        running = netrec(folder / "slowdown", "--protocols", "udp").start() if recorded else None
        try:
            at_rate = [load(paced, 1, PACED) for _ in range(bursts)]
            at_most = [load(flat_out, 1, 0) for _ in range(bursts)]
        finally:
            if running:
                running.stop()
        return {
            "rate": median([one["per_second"] for one in at_rate]),
            "cpu": median([one["cpu_seconds"] for one in at_rate]),
            "most": median([one["per_second"] for one in at_most]),
        }

    block(False)  # warm
    done = [block(turn % 2 == 1) for turn in range(2 * blocks + 1)]

    def more(name: str, sign: int) -> list[float]:
        """Percent by which each block with a recorder differs from the mean of those around it."""
        around = [(done[at - 1][name] + done[at + 1][name]) / 2 for at in range(1, len(done), 2)]
        return [((one[name] / alone) ** sign - 1) * 100 for one, alone in zip(done[1::2], around, strict=True)]

    slower, most, cpu = more("rate", -1), more("most", -1), more("cpu", 1)
    report.rows += [
        ["datagrams per second, asked for 100,000", median([one["rate"] for one in done]), "", "1/s"],
        ["slowdown of that", median(slower), interval(slower), "%"],
        ["more CPU in it", median(cpu), interval(cpu), "%"],
        ["datagrams per second, as fast as they go", median([one["most"] for one in done]), "", "1/s"],
        ["slowdown of that", median(most), interval(most), "%"],
    ]
    report.targets.append(Target("slowdown of 100,000 datagrams/s, median", median(slower), 5.0, "%"))


def interval(values: list[float]) -> str:
    """95% interval of the median, by resampling (2,000 times, always the same)."""
    draws = np.random.default_rng(1).choice(values, (2000, len(values)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return f"{low:.1f}..{high:.1f}"


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
        f"""select role, count(distinct server_address), sum(client_bytes), sum(client_packets), count(*)
        from read_parquet('{trace}/flows/**/*.parquet') where server_port = {done["port"]} group by all order by role"""
    ).fetchall()
    health = f"read_parquet('{trace}/health/**/*.parquet')"
    (lost,) = connection.execute(f"select coalesce(sum(events_lost), 0) from {health}").fetchone() or (0,)
    rows = sum(row[4] for row in found)
    exact = sum(row[1:4] == (flows, flows * PAYLOAD, flows) for row in found)
    report.rows += [
        ["new flows per second", done["per_second"], "", "1/s"],
        ["flow rows of them (both ends)", rows, "", "rows"],
        ["ends with exactly all flows, bytes and packets", exact, "", "of 2"],
        ["packets lost, as the recorder says", int(lost), "", ""],
        ["user CPU per row, start and stop included", whole.user / max(rows, 1) * 1e6, "", "us"],
        ["resident memory, before and after", memory / 1e6, f"{before / 1e6:.0f}..{memory / 1e6:.0f}", "MB"],
    ]
    report.targets += [
        Target("ends with exactly all flows, bytes and packets", exact, 2, at_least=True),
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
