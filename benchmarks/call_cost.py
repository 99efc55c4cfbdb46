"""What it costs that the kernel calls a program at all, whatever the program does.

Programs that do nothing are attached to the change of state of TCP sockets, many at once, and short connections are
made with them and without, in turns: the CPU that the load takes more, by how many calls there were. The kernel counts
those. What the programs of `netrec record` time of themselves does not have this part.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from benchmarks.churn import LOADS, churn
from benchmarks.harness import Options, Report, beside, interval, median
from recorder.bpf import objects, syscalls

_RAW_TRACEPOINT = 17
_RUN_COUNT = 200  # of struct bpf_prog_info
_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
# return 0
_NOTHING = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
PROGRAMS, CONNECTIONS = 20, 4_000
PAIRS, LONGEST_SECONDS = 40, 60


def run(options: Options) -> Report:
    report = Report(["what", "value", "interval", "unit"])
    connections = options.size(CONNECTIONS, 500)
    with _programs(PROGRAMS) as programs:
        calls = _calls(programs, connections)

        def one_block(attached: bool) -> dict[str, float]:
            with _attached(programs if attached else []):
                done = churn(LOADS["one pair"], connections)
            return {"cpu": done["cpu_seconds"] / connections * 1e9}

        pairs = beside(one_block, options.size(PAIRS, 1), LONGEST_SECONDS, options.size(4, 1))
    costs = [(with_them["cpu"] - without["cpu"]) / (calls * PROGRAMS) for with_them, without in pairs]
    report.rows += [
        ["calls of one program a connection over loopback, both ends", calls, "", ""],
        ["CPU a call", median(costs), interval(costs), "ns"],
    ]
    report.notes.append(f"{len(pairs)} pairs of {connections:,} connections, {PROGRAMS} programs.")
    return report


@contextlib.contextmanager
def _programs(count: int) -> Iterator[list[int]]:
    loaded = [objects.load_program("nothing", _RAW_TRACEPOINT, 0, 0, _NOTHING) for _ in range(count)]
    try:
        yield loaded
    finally:
        for program in loaded:
            os.close(program)


@contextlib.contextmanager
def _attached(programs: list[int]) -> Iterator[None]:
    links = [syscalls.attach_raw_tracepoint(program, "inet_sock_set_state") for program in programs]
    try:
        yield
    finally:
        for link in links:
            os.close(link)


def _calls(programs: list[int], connections: int) -> float:
    """How often a program is called a connection: the kernel counts while its statistics are on."""
    before = _STATISTICS.read_text()
    _STATISTICS.write_text("1")
    try:
        with _attached(programs[:1]):
            churn(LOADS["one pair"], connections)
        counted = struct.unpack_from("<Q", objects.information(programs[0]), _RUN_COUNT)[0]
    finally:
        _STATISTICS.write_text(before)
    return float(counted / connections)
