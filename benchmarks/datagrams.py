"""What recording UDP costs the recorded and the recorder, and whether 20,000 new flows a second are all there.

Blocks with the recorder and without take turns; figures are medians over the pairs. The load keeps to 100,000 datagrams
a second, each a packet of its own that the host handles twice over loopback: where it is sent and where it is received.
At a fixed rate a recorder shows as CPU time first, so the load's own is the figure (the lowest of a block's short
loads: what else the machine does meanwhile only adds). There are two loads: one that does next to nothing but let the
kernel work (128 datagrams a system call), and one with a system call for each, at both ends, as most programs do. What
the programs take in the kernel is measured apart, by themselves, and `packet_cost` measures it without
the rest. The last rows are what short TCP connections pay for what is recorded beside TCP: run beside run with
--protocols tcp.
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

DATAGRAMS, PAYLOAD = 20_000, 200
PACED, PAIRS, LOADS_A_BLOCK, LIMIT = 100_000, 16, 5, 5.0
# No more pairs begin after so long, but there are always the fewest.
LONGEST_SECONDS, FEWEST = 100, 3
CALLS = {"128 a system call": 128, "one a system call": 1}
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


def load(datagrams: int, peers: int, rate: int, at_once: int = 128) -> dict[str, Any]:
    """Run the load to its end: sent, received, per_second, bursts, missed (deadlines of bursts), sender_cpu,
    receiver_cpu, cpu_seconds (both), port. `at_once` datagrams at most go into a system call."""
    return json.loads(measure([build(), str(datagrams), str(peers), str(rate), str(PAYLOAD), str(at_once)]).output)


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval or lowest..highest", "unit"])
    with scratch() as folder:
        _new_flows(report, options, folder / "flows")
        _slowdown(report, options, folder)
        _connections(report, options, folder)
    return report


def _slowdown(report: Report, options: Options, folder: Path) -> None:
    """Short loads, beside a recorder and without one, in blocks that take turns."""
    datagrams, loads = options.size(DATAGRAMS, 5_000), options.size(LOADS_A_BLOCK, 1)

    def block(recorded: bool) -> dict[str, float]:
        running = netrec(folder / "slowdown", "--protocols", "udp").start() if recorded else None
        try:
            paced = {name: [load(datagrams, 1, PACED, number) for _ in range(loads)] for name, number in CALLS.items()}
            flat_out = [load(datagrams, 1, 0) for _ in range(loads)]
        finally:
            if running:
                running.stop()
        cpu = {name: min(one["cpu_seconds"] / datagrams * 1e6 for one in done) for name, done in paced.items()}
        return cpu | {
            "rate": median([one["per_second"] for done in paced.values() for one in done]),
            "most": median([one["per_second"] for one in flat_out]),
        }

    pairs = beside(block, options.size(PAIRS, 1), LONGEST_SECONDS, options.size(FEWEST, 1))
    report.notes.append(f"{len(pairs)} pairs of blocks; {loads} loads of {datagrams:,} datagrams a kind in each.")
    for name, text in (("rate", f"datagrams/s, asked for {PACED:,}"), ("most", "datagrams/s, as fast as they go")):
        slower = [(alone[name] / one[name] - 1) * 100 for one, alone in pairs]
        report.rows += [
            [f"{text}, without a recorder", median([alone[name] for _, alone in pairs]), "", "1/s"],
            ["slower beside one", median(slower), interval(slower), "%"],
        ]
        if name == "rate":
            report.targets.append(Target(f"slowdown at {PACED:,} datagrams/s, median", median(slower), LIMIT, "%"))
    for name in CALLS:
        each = [one[name] - alone[name] for one, alone in pairs]
        more = [(one[name] / alone[name] - 1) * 100 for one, alone in pairs]
        report.rows += [
            [
                f"CPU of the load per datagram, both ends, {name}, without a recorder",
                median([alone[name] for _, alone in pairs]),
                "",
                "us",
            ],
            ["more beside one", median(each), interval(each), "us"],
            ["more beside one", median(more), interval(more), "%"],
            [f"of a core, at {PACED:,} a second", median(each) * PACED / 1e4, "", "%"],
        ]
        what = f"more CPU in the load at {PACED:,} datagrams/s, {name}, median"
        report.targets.append(Target(what, median(more), LIMIT, "%"))
    used = _in_kernel(folder / "in-kernel", 10 * datagrams)
    report.rows.append(["programs in the kernel, per packet at one end", used, "", "ns"])


def _in_kernel(trace: Path, datagrams: int) -> float:
    """Nanoseconds of the programs per datagram and end; a recorder with a budget measures them."""
    running = netrec(trace, "--protocols", "udp", "--max-cpu", "6400%").start()
    try:
        load(datagrams, 1, PACED)
    finally:
        running.stop()
    ((used,),) = duckdb.sql(f"select sum(programs_cpu_us) from read_parquet('{trace}/health/**/*.parquet')").fetchall()
    return float(used) * 1e3 / datagrams / 2


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
