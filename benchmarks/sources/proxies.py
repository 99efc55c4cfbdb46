"""Ways to see sessions: nothing, eBPF, netrec's proxy and HAProxy 2.6 (both transparent), in turns.

One client (wrk, curl), one nginx, two cores for everything. HAProxy splices and logs every session (tcplog). The
ebpf source records the same machine while its turn lasts. CPU is that of the proxy or recorder, for each connection,
request or downloaded file; what the kernel does for it elsewhere shows in the rate.
"""

from __future__ import annotations

import os

from benchmarks.harness import Options, Report, Target, in_turns, median, ratios, scratch, spread
from benchmarks.sources.gateways import Gateway, Laboratory
from tests.support.namespaces import Network

ROUNDS = 5
SECONDS = 3
BULK = 2_000_000_000
TARGETS = {"short connections/s": 0.8, "keep-alive requests/s": 0.9, "bulk bytes/s": 1.0}


def run(options: Options) -> Report:
    report = Report(
        [
            "workload",
            "way",
            "median",
            "lowest..highest",
            "of HAProxy",
            "lowest..highest",
            "CPU us each",
            "p50 us",
            "p99 us",
        ]
    )
    rounds, seconds = options.size(ROUNDS, 1), options.size(SECONDS, 1)
    with scratch() as folder, Network() as network:
        laboratory = Laboratory(network, folder)
        with (folder / "www" / "bulk").open("wb") as file:
            file.truncate(options.size(BULK, 10_000_000))
        made = (laboratory.gateway("direct"), laboratory.gateway("ebpf"), laboratory.haproxy(), laboratory.netrec())
        ways = {one.name: one for one in made}
        for workload in TARGETS:
            _compare(report, laboratory, ways, workload, rounds, seconds)
    report.notes.append(f"{os.cpu_count()} cores for client, proxy and server together; {rounds} rounds in turns")
    return report


def _compare(
    report: Report, laboratory: Laboratory, ways: dict[str, Gateway], workload: str, rounds: int, seconds: int
) -> None:
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    latency: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    errors = dict.fromkeys(ways, 0)
    passed = dict.fromkeys(ways, 0)

    def one(gateway: Gateway) -> float:
        if gateway.name != "ebpf":
            return measured(gateway)
        with laboratory.kernel_recorder(gateway):
            return measured(gateway)

    def measured(gateway: Gateway) -> float:
        if workload.startswith("bulk"):
            before = gateway.cpu()
            speed = laboratory.download(gateway, "bulk")
            cpu[gateway.name].append((gateway.cpu() - before) * 1e6)
            return speed
        found = laboratory.wrk(gateway, seconds, short=workload.startswith("short"))
        cpu[gateway.name].append(found["cpu"] / max(found["requests"], 1) * 1e6)
        latency[gateway.name].append((found["p50"], found["p99"]))
        errors[gateway.name] += int(found["errors"])
        passed[gateway.name] += int(found["passed"])
        return found["per_second"]

    results = in_turns({name: lambda gateway=gateway: one(gateway) for name, gateway in ways.items()}, rounds)  # type: ignore[misc]
    for name, values in results.items():
        relative = ratios(results, name, "haproxy")
        waits = [median([pair[place] for pair in latency[name]]) if latency[name] else None for place in (0, 1)]
        report.rows.append(
            [
                workload,
                name,
                median(values),
                spread(values),
                median(relative),
                spread(relative),
                median(cpu[name]),
                *waits,
            ]
        )
        if passed[name]:
            report.notes.append(f"{workload}: {name}: {passed[name]} sessions passed by the proxy: its figure is void")
        if errors[name]:
            report.notes.append(f"{workload}: {name}: {errors[name]} errors")
    netrec = median(ratios(results, "netrec", "haproxy"))
    report.targets.append(Target(f"{workload}, netrec of HAProxy", netrec, TARGETS[workload], "x", at_least=True))
