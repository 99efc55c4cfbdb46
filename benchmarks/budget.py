"""`--max-cpu 2%` under three times the load that it can serve: what the recorder takes, and what sums are still worth.

First the recorder watches a light load, so that its cost per connection is known (its process, and its programs in the
kernel by the kernel's own statistics), then, still without a budget to speak of, about three times what should fit
into 2% of a core: what a connection costs there decides what does fit. Then it gets three times that, with the budget.
CPU is measured from outside, over windows of ten seconds, after the time to settle.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import duckdb

import netrec as netrec_api
from benchmarks.churn import PAYLOAD, build, netrec
from benchmarks.harness import Background, Options, Report, Target, json_lines, median, scratch

BUDGET = 0.02
CALIBRATION_RATE, CALIBRATION_SECONDS = 1500, 15
LOAD_SECONDS, SETTLE_SECONDS, WINDOW_SECONDS = 110, 45, 10
TIMES = 3


def run(options: Options) -> Report:
    report = Report(["what", "value", "unit"])
    with scratch() as folder:
        seconds = options.size(CALIBRATION_SECONDS, 4)
        fixed, cost = _calibrate(folder / "light", CALIBRATION_RATE, seconds)
        rate = round(TIMES * max((BUDGET - fixed) / cost, 100.0))
        fixed, cost = _calibrate(folder / "much", rate, seconds)
        served = max((BUDGET - fixed) / cost, 100.0)
        report.rows += [
            ["CPU of a recorder that watches nothing", fixed * 100, "% of a core"],
            ["CPU per connection (two ends), process and programs", cost * 1e6, "us"],
            [f"connections per second that fit into {BUDGET:.0%}", served, "1/s"],
            [f"CPU without a budget, at {rate:,} connections/s", (fixed + cost * rate) * 100, "% of a core"],
        ]
        got = _overload(report, folder / "heavy", TIMES * served, options)
        report.targets.append(Target("load, times what fits", got / served, 0.95 * TIMES, at_least=True))
    return report


def _calibrate(trace: Path, rate: int, seconds: int) -> tuple[float, float]:
    """The share of a core that an idle recorder takes, and CPU seconds per connection beyond that."""
    running = netrec(trace, "--max-cpu", "6400%").start()
    try:
        time.sleep(2)
        idle = _rate(running, seconds / 2)
        load = _load(rate, seconds)
        time.sleep(2)
        busy = _rate(running, seconds - 4)
        done = json.loads(load.communicate(timeout=120)[0])
        running.stop()
    finally:
        running.kill()
    programs = _health(trace)
    in_kernel = sum(cpu for _, _, cpu in programs) / done["connections"]
    return idle, max((busy - idle) / done["per_second"] + in_kernel, 1e-7)


def _overload(report: Report, trace: Path, rate: float, options: Options) -> float:
    """The load with the budget; connections per second that it came to."""
    seconds = options.size(LOAD_SECONDS, 20)
    running = netrec(trace, "--max-cpu", f"{BUDGET * 100:g}%").start()
    samples: list[tuple[float, float]] = []
    try:
        load = _load(round(rate), seconds)
        while load.poll() is None:
            samples.append((time.time(), _cpu(running)))
            time.sleep(0.5)
        done = json.loads(load.communicate()[0])
        time.sleep(6)
        last = json_lines(running.stop().output)[-1]
    finally:
        running.kill()
    settled = samples[0][0] + options.size(SETTLE_SECONDS, 5)
    process, everything = _windows(samples, _health(trace), settled)
    flows, size, stated = _sums(trace, done["ports"])
    true_bytes = done["client_bytes"] + done["server_bytes"]
    steps = _steps(trace)
    report.rows += [
        ["load that it got", done["per_second"], "connections/s"],
        ["CPU of its process, highest of the windows", max(process) * 100, "% of a core"],
        ["CPU of its process, median of the windows", median(process) * 100, "% of a core"],
        ["with its programs in the kernel, highest", max(everything) * 100, "% of a core"],
        ["connections made", done["connections"], ""],
        ["connections estimated", flows, ""],
        ["bytes estimated, of what was sent", size / true_bytes * 100, "%"],
        ["stated error of flows (95%)", stated * 100, "%"],
        ["events lost", last["lost"], ""],
        *([f"after {moment - samples[0][0]:.0f} s, {kind}", reason, ""] for moment, kind, reason in steps),
    ]
    report.targets += [
        Target("CPU of the recorder, programs included, highest of 10 s", max(everything) * 100, 2.5, "%"),
        Target("error of the number of connections", abs(flows / done["connections"] - 1) * 100, 5, "%"),
        Target("error of the bytes", abs(size / true_bytes - 1) * 100, 5, "%"),
        Target("error of the number of connections, of what is stated", abs(flows / done["connections"] - 1) * 100,
               max(stated, 1e-4) * 100 * 1.5, "%"),
        Target("steps in health", len(steps), 3, at_least=True),
    ]  # fmt: skip
    return float(done["per_second"])


def _load(rate: int, seconds: int) -> subprocess.Popen[str]:
    command = [str(part) for part in (build(), 1, rate * seconds, PAYLOAD, PAYLOAD, rate)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _cpu(running: Background) -> float:
    """CPU seconds of the recorder's process so far (clock_getcpuclockid(3))."""
    return time.clock_gettime((~running.process.pid << 3) | 2)


def _rate(running: Background, seconds: float) -> float:
    begun, before = time.monotonic(), _cpu(running)
    time.sleep(seconds)
    return (_cpu(running) - before) / (time.monotonic() - begun)


def _windows(
    samples: list[tuple[float, float]], programs: list[tuple[float, float, float]], settled: float
) -> tuple[list[float], list[float]]:
    """Shares of a core over windows that follow each other: of the process, and with the programs' run time."""
    process, everything = [], []
    start = next((one for one in samples if one[0] >= settled), samples[0])
    for moment, cpu in samples:
        if moment - start[0] >= WINDOW_SECONDS:
            seconds = moment - start[0]
            process.append((cpu - start[1]) / seconds)
            within = sum(
                used * max(0.0, min(end, moment) - max(begin, start[0])) / max(end - begin, 1e-9)
                for begin, end, used in programs
            )
            everything.append(process[-1] + within / seconds)
            start = (moment, cpu)
    return process or [0.0], everything or [0.0]


def _health(trace: Path) -> list[tuple[float, float, float]]:
    """Intervals of the health table: start, end, seconds that the programs ran in it."""
    return duckdb.sql(
        f"""select epoch_us(start_time) / 1e6, epoch_us(end_time) / 1e6, programs_cpu_us / 1e6
        from read_parquet('{trace}/health/**/*.parquet') where kind = 'interval' and programs_cpu_us is not null"""
    ).fetchall()


def _steps(trace: Path) -> list[tuple[float, str, str]]:
    return duckdb.sql(
        f"""select epoch_us(end_time) / 1e6, kind, reason from read_parquet('{trace}/health/**/*.parquet')
        where kind in ('degraded', 'restored') order by 1"""
    ).fetchall()


def _sums(trace: Path, ports: list[int]) -> tuple[float, float, float]:
    """Flows and bytes of the load as netrec estimates them, and the error that it states for flows (a share)."""
    opened = netrec_api.open(trace, filter=f"server_port in ({', '.join(map(str, ports))})")
    row = opened.sql("select sum(flows)::double, sum(bytes)::double from flow").fetchall()[0]
    return row[0], row[1], opened.context.sampling_error.get("flows", 0.0)
