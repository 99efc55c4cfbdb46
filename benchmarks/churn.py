"""The load of short connections (churn.c), and the programs that watch it: netrec and its peers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.harness import CACHE, NETREC, ROOT, Background, PeerMissing, json_lines, measure, median, peer

# Payload bytes that each side of a connection sends.
PAYLOAD = 200


@dataclass(frozen=True)
class Load:
    """Pairs of client and server; on `one_core` they share a core, and wait for none but each other."""

    pairs: int
    one_core: bool = False


# One pair on a core of its own: the rate is what a connection takes of CPU, whatever the scheduler does, and all that
# the programs in the kernel take is missing. Two pairs keep both cores of a small machine busy: what the recorder's own
# process takes is missing, too.
LOADS = {"one pair": Load(1, one_core=True), "two pairs": Load(2)}


def build() -> Path:
    """The compiled load generator; raises `PeerMissing` without a C compiler."""
    source, program = ROOT / "benchmarks" / "churn.c", CACHE / "churn"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        subprocess.run([peer("gcc"), "-O2", "-pthread", "-o", program, source], check=True, capture_output=True)
    return program


def churn(load: Load, connections: int, rate: int = 0) -> dict[str, Any]:
    """Run the load to its end, as fast as it goes or at so many connections a second: connections, seconds, per_second,
    client_bytes, server_bytes, ports."""
    there = ["taskset", "--cpu-list", str(max(os.sched_getaffinity(0)))] if load.one_core else []
    command = [*there, build(), load.pairs, connections, PAYLOAD, PAYLOAD, rate]
    return json.loads(measure([str(part) for part in command]).output)


def connections_in(load: Load, seconds: float) -> int:
    """How many this machine makes in about so long, when it does nothing else."""
    return max(round(churn(load, 3_000 * load.pairs)["per_second"] * seconds / 1_000) * 1_000, 1_000)


@dataclass(frozen=True)
class Watcher:
    """A recorder that runs beside the load: its command line, and the text by which it says that it is recording."""

    name: str
    command: Sequence[str]
    says: str

    def start(self) -> Background:
        return Background(self.command, lambda running: self.says in running.text())


def netrec(trace: Path, *options: str) -> Watcher:
    """`netrec record` into a folder, its progress as JSON lines; the first comes when it records."""
    command = [NETREC, "record", "--source", "ebpf", "-o", str(trace), "--duration", "10m", "--json", *options]
    return Watcher("netrec", command, '"elapsed"')


def watchers(folder: Path) -> tuple[list[Watcher], list[str]]:
    """netrec and every peer that is installed, and a note for each that is missing."""
    found, notes = [netrec(folder / "trace")], []
    (folder / "nfpcapd").mkdir(exist_ok=True)
    # tcplife finds its tracepoint through tracefs: mounted for it alone where the host has none. Its output goes to a
    # file, as that of the others does.
    with_tracefs = "mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec stdbuf -oL "
    for name, command, says in (
        ("tcplife", ["unshare", "--mount", "sh", "-c", with_tracefs + "tcplife"], "PID"),
        ("tcpdump", ["tcpdump", "-i", "lo", "-s", "96", "-w", str(folder / "tcpdump.pcap"), "tcp"], "listening on"),
        ("nfpcapd", ["nfpcapd", "-i", "lo", "-w", str(folder / "nfpcapd"), "tcp"], "Startup"),
    ):
        try:
            peer(name)
            found.append(Watcher(name, command, says))
        except PeerMissing as missing:
            notes.append(str(missing))
    return found, notes


def summary(output: str) -> dict[str, Any]:
    """The last JSON line of `netrec record --json`: what it recorded in all."""
    lines = json_lines(output)
    return lines[-1] if lines else {}


def block(watcher: Watcher | None, load: str, connections: int, loads: int, rate: int = 0) -> dict[str, float]:
    """Some loads, one after the other, beside a watcher or alone: their median of connections per second (`rate`), and
    the load's own CPU in us a connection (`cpu`), the lowest: what else the machine does only adds to that."""
    running = watcher.start() if watcher else None
    try:
        done = [churn(LOADS[load], connections, rate) for _ in range(loads)]
    finally:
        if running:
            running.stop()
    return {
        "rate": median([one["per_second"] for one in done]),
        "cpu": min(one["cpu_seconds"] / connections * 1e6 for one in done),
    }


@dataclass(frozen=True)
class InKernel:
    """What the programs took: us of a connection, % of the load's time; rows that were written meanwhile."""

    us_per_connection: float
    share: float
    rows: int


def in_kernel(trace: Path, connections: int, *options: str) -> InKernel:
    """The programs' run time while a load runs; a budget that is never exceeded makes the recorder measure it, a tenth
    of the time."""
    running = netrec(trace, "--max-cpu", "6400%", *options).start()
    try:
        done = churn(LOADS["one pair"], connections)
    finally:
        running.stop()
    health = f"read_parquet('{trace}/health/**/*.parquet')"
    ((used, rows),) = duckdb.sql(f"select sum(programs_cpu_us), sum(rows_written) from {health}").fetchall()
    return InKernel(used / done["connections"], used / 1e6 / done["seconds"] * 100, int(rows))
