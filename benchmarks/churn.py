"""The load of short connections (churn.c), and the programs that watch it: netrec and its peers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.harness import CACHE, NETREC, ROOT, Background, Measure, PeerMissing, json_lines, measure, peer

# Payload bytes that each side of a connection sends.
PAYLOAD = 200
# One client and server that wait for each other; and two pairs, which keep both cores of a small machine busy.
LOADS = {"one pair": 1, "two pairs": 2}


def build() -> Path:
    """The compiled load generator; raises `PeerMissing` without a C compiler."""
    source, program = ROOT / "benchmarks" / "churn.c", CACHE / "churn"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        CACHE.mkdir(exist_ok=True)
        subprocess.run([peer("gcc"), "-O2", "-pthread", "-o", program, source], check=True, capture_output=True)
    return program


def churn(pairs: int, connections: int) -> dict[str, Any]:
    """Run the load to its end: connections, seconds, per_second, client_bytes, server_bytes, ports."""
    return json.loads(measure([build(), str(pairs), str(connections), str(PAYLOAD), str(PAYLOAD)]).output)


class Watcher:
    """A recorder that runs beside the load: its name, its command line, and how it says that it is recording."""

    def __init__(self, name: str, command: list[str], says: str) -> None:
        self.name, self.command, self.says = name, command, says

    def start(self) -> Background:
        return Background(self.command, lambda running: self.says in running.text())


def netrec(trace: Path, *options: str) -> Watcher:
    """`netrec record` into a folder, its progress as JSON lines."""
    return Watcher(
        "netrec",
        [NETREC, "record", "--source", "ebpf", "-o", str(trace), "--duration", "10m", "--json", *options],
        '{"',
    )


def watchers(folder: Path) -> tuple[list[Watcher], list[str]]:
    """netrec and every peer that is installed, and a note for each that is missing."""
    found, notes = [netrec(folder / "trace")], []
    (folder / "nfpcapd").mkdir(exist_ok=True)
    for name, arguments, says in (
        ("tcplife", [], "PID"),
        ("tcpdump", ["-i", "lo", "-s", "96", "-w", str(folder / "tcpdump.pcap"), "tcp"], "listening on"),
        ("nfpcapd", ["-i", "lo", "-w", str(folder / "nfpcapd"), "tcp"], "Startup"),
    ):
        try:
            found.append(Watcher(name, [peer(name), *arguments], says))
        except PeerMissing as missing:
            notes.append(str(missing))
    return found, notes


def summary(output: str) -> dict[str, Any]:
    """The last JSON line of `netrec record --json`: what it recorded in all."""
    lines = json_lines(output)
    return lines[-1] if lines else {}


def measured_beside(watcher: Watcher, pairs: int, connections: int) -> tuple[dict[str, Any], Measure]:
    """The load with a watcher running: what the load says, and the watcher's whole process."""
    running = watcher.start()
    try:
        load = churn(pairs, connections)
        return load, running.stop()
    finally:
        running.kill()
