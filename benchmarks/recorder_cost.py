"""What the recorder itself takes and loses: start, CPU per row, memory, recorded share, at the highest load.

Two pairs of client and server make short connections over loopback as fast as they can; every connection gives two
rows, one for each end. CPU is that of the whole recorder, into finished Parquet files; memory is that of the recorder
and its children, pages that they share counted once.
"""

from __future__ import annotations

import time
from pathlib import Path

import duckdb

from benchmarks.churn import LOADS, PAYLOAD, churn, netrec
from benchmarks.harness import Options, Report, Target, median, scratch

START_ROUNDS = 5
CONNECTIONS_PER_TURN = 50_000
# Rows after which memory is read: what came before, and what must not grow any more.
FLAT_FROM, ROWS = 250_000, 1_000_000
MEMORY_LIMIT = 120e6


def run(options: Options) -> Report:
    report = Report(["what", "value", "unit"])
    with scratch() as folder:
        idle = _start(report, folder, options.size(START_ROUNDS, 2))
        _load(report, idle, folder / "load", options.size(ROWS, 20_000), options.size(CONNECTIONS_PER_TURN, 2_000))
    return report


def _start(report: Report, folder: Path, rounds: int) -> float:
    """User CPU seconds of a recorder that starts and stops; also reports how long its start takes."""
    seconds, idle = [], []
    for number in range(rounds):
        running = netrec(folder / f"start{number}").start()
        seconds.append(running.ready_after)
        idle.append(running.stop().user)
    report.rows += [
        ["start to recording, median", median(seconds), "s"],
        ["user CPU of a start and a stop, median", median(idle), "s"],
    ]
    report.targets.append(Target("start to recording, median", median(seconds), 1.0, "s"))
    return median(idle)


def _load(report: Report, idle: float, trace: Path, rows: int, per_turn: int) -> None:
    running = netrec(trace).start()
    memory: list[tuple[int, int]] = []
    connections, ports, busy = 0, [], 0.0
    try:
        while 2 * connections < rows:
            result = churn(LOADS["two pairs"], per_turn)
            connections += result["connections"]
            ports += result["ports"]
            busy += result["seconds"]
            memory.append((2 * connections, running.resident()))
        time.sleep(1.5)
        memory.append((2 * connections, running.resident()))
        whole = running.stop()
    finally:
        running.kill()
    recorded, exact, losses = _recorded(trace, ports)
    lost = sum(losses.values())
    peak = max(size for _, size in memory)
    early = max((size for count, size in memory if count <= FLAT_FROM), default=memory[0][1])
    user = (whole.user - idle) / max(recorded, 1) * 1e6
    report.rows += [
        ["connections made", connections, ""],
        ["connections per second, with the recorder", connections / busy, "1/s"],
        ["rows recorded of them (two each)", recorded, "rows"],
        ["rows with exactly the bytes that were sent", exact, "rows"],
        *([f"events lost in the {place}", count, ""] for place, count in losses.items()),
        ["user CPU per row, beyond start and stop", user, "us"],
        ["user CPU per row, all", whole.user / max(recorded, 1) * 1e6, "us"],
        ["user and system CPU per row, all", whole.cpu / max(recorded, 1) * 1e6, "us"],
        [f"resident memory, first {min(FLAT_FROM, rows):,} rows", early / 1e6, "MB"],
        [f"resident memory, highest up to {2 * connections:,} rows", peak / 1e6, "MB"],
        ["bytes per row on disk", _bytes(trace) / max(recorded, 1), "byte"],
    ]
    report.targets += [
        Target("recorded share", recorded / (2 * connections) * 100, 100, "%", at_least=True),
        Target("rows with exact bytes", exact / max(recorded, 1) * 100, 100, "%", at_least=True),
        Target("events lost", lost, 0),
        Target("user CPU per row", user, 2.0, "us"),
        Target("resident memory", peak / 1e6, MEMORY_LIMIT / 1e6, "MB"),
    ]


def _recorded(trace: Path, ports: list[int]) -> tuple[int, int, dict[str, int]]:
    """Finished rows of the load, those with exact bytes, and the losses that the recorder admits, by place."""
    connection = duckdb.connect()
    flows = f"read_parquet('{trace}/flows/**/*.parquet')"
    recorded, exact = connection.execute(
        f"""select count(*), count(*) filter (client_bytes = {PAYLOAD} and server_bytes = {PAYLOAD}) from {flows}
        where server_port in ({", ".join(map(str, set(ports)))}) and flow_end_reason = 'end'"""
    ).fetchone() or (0, 0)
    health = f"read_parquet('{trace}/health/**/*.parquet')"
    places = ("ring", "map", "kernel")
    sums = ", ".join(f"coalesce(sum(lost_in_{place}), 0)::bigint" for place in places)
    losses = connection.execute(f"select {sums} from {health}").fetchone() or (0, 0, 0)
    return recorded, exact, dict(zip(places, losses, strict=True))


def _bytes(trace: Path) -> int:
    return sum(path.stat().st_size for path in (trace / "flows").rglob("*.parquet"))
