"""What each way of seeing sessions costs: nothing, eBPF, netrec's proxy, HAProxy and mitmproxy, the same workloads.

One client (wrk, curl), one nginx, and gateways between them; each round every way has its turn with all workloads. The
latency is that of one connection at a time, so that it holds no queue; what is added is the difference to the direct
way in the same round. CPU and memory are those of the recorder's or proxy's processes; what the kernel does for them
elsewhere shows in the rates. HAProxy splices and logs every session (tcplog) to a socket whose reader is not counted.
`--write docs/choosing-a-source.md` puts the table into that page; about six minutes.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.harness import Options, PeerMissing, Report, Target, in_turns, median, number, ratios, scratch
from benchmarks.sources import mitmproxy
from benchmarks.sources.gateways import Gateway, Laboratory
from tests.support.namespaces import Network

ROUNDS = 5
SECONDS = 2
CONNECTIONS = 50
BULK = 200_000_000
SIZES = (10, 100, 1000, 10_000)
# Sessions at once that a way is asked for: HAProxy's maxconn here (two descriptors and two pipe ends a session, of
# 20,000), and for mitmproxy what it accepts within the seconds of a run.
MOST = {"haproxy": 4000, "mitmproxy": 100}
# Where a request takes a second, so that the first and last ones weigh less.
LONGER = {"mitmproxy": 3}
AIMS = {"short connections/s": 0.8, "keep-alive requests/s": 0.9, "one bulk download, MB/s": 1.0}
AGAINST_MITMPROXY = 10.0

# measure -> way -> one figure a round
Figures = dict[str, dict[str, list[float]]]


def run(options: Options) -> Report:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rounds, seconds = options.size(ROUNDS, 1), options.size(SECONDS, 1)
    sizes = SIZES[:2] if options.quick else SIZES
    figures: Figures = defaultdict(lambda: defaultdict(list))
    notes = [f"load average before the first run: {os.getloadavg()[0]:.1f} (0: nothing else was running)"]
    with scratch() as folder, Network() as network:
        laboratory = Laboratory(network, folder)
        with (folder / "www" / "bulk").open("wb") as file:
            file.truncate(options.size(BULK, 50_000_000))
        made = [laboratory.gateway("direct"), laboratory.gateway("ebpf"), laboratory.netrec(), laboratory.haproxy()]
        try:
            made.append(mitmproxy.gateway(laboratory))
            notes.append(f"mitmproxy {mitmproxy.find()[1]}, transparent, keeping nothing")
        except PeerMissing as missing:
            notes.append(f"mitmproxy not measured: {missing}")

        def workloads(gateway: Gateway) -> float:
            with _recording(laboratory, gateway):
                _workloads(laboratory, gateway, seconds, figures, notes)
            return 0.0

        for one in made:  # what is loaded and compiled once is no cost of a session
            laboratory.wrk(one, 1, CONNECTIONS, short=True)
        in_turns({one.name: lambda one=one: workloads(one) for one in made}, rounds)  # type: ignore[misc]
        for one in made:
            with _recording(laboratory, one):
                for size in sizes:
                    if size <= MOST.get(one.name, size):
                        _scale(laboratory, one, size, options.size(3, 1), figures, notes)
    notes.append(
        f"{os.cpu_count()} cores for client, proxy and server together; medians of {rounds} rounds in turns, the "
        f"scaling one run each; {CONNECTIONS} connections; in brackets: of HAProxy's, in the same round"
    )
    ways = [one.name for one in made]
    for way in [way for way in ways if not all(all(figures[measure][way]) for measure in AIMS)]:
        notes.append(f"{way} is left out: in a run on this busy machine it answered nothing")
        ways.remove(way)
    return _report(figures, ways, notes)


@contextlib.contextmanager
def _recording(laboratory: Laboratory, gateway: Gateway) -> Iterator[None]:
    with laboratory.kernel_recorder(gateway) if gateway.name == "ebpf" else contextlib.nullcontext():
        yield


def _workloads(laboratory: Laboratory, gateway: Gateway, seconds: int, figures: Figures, notes: list[str]) -> None:
    name = gateway.name
    for kind, short in (("short connections", True), ("keep-alive requests", False)):
        found = laboratory.wrk(gateway, seconds * LONGER.get(name, 1), CONNECTIONS, short=short, attempts=2)
        figures[f"{kind}/s"][name].append(found["per_second"])
        figures[f"CPU seconds per 1,000 {kind}"][name].append(found["cpu"] / max(found["requests"], 1) * 1000)
        _note(notes, kind, name, found)
        alone = laboratory.wrk(gateway, 1, 1, short=short)
        figures[f"{kind}, p50 us"][name].append(alone["p50"])
        figures[f"{kind}, p99 us"][name].append(alone["p99"])
    size = (laboratory.folder / "www" / "bulk").stat().st_size
    before = gateway.cpu()
    figures["one bulk download, MB/s"][name].append(laboratory.download(gateway, "bulk") / 1e6)
    figures["CPU seconds per GB"][name].append((gateway.cpu() - before) * 1e9 / size)


def _scale(
    laboratory: Laboratory, gateway: Gateway, size: int, seconds: int, figures: Figures, notes: list[str]
) -> None:
    """So many connections at once, each with a request under way; memory is the most that was seen meanwhile."""
    ended, most = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(0.2):
            most[0] = max(most[0], gateway.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        # Connecting takes its time before requests flow: more connections, a longer run.
        longer = seconds * LONGER.get(gateway.name, 1) + size // 1500
        found = laboratory.wrk(gateway, longer, size, attempts=2)
    finally:
        ended.set()
        watcher.join()
    _note(notes, f"{size:,} at once", gateway.name, found)
    if not found["requests"]:
        notes.append(f"{size:,} at once: {gateway.name}: nothing was answered within {longer} s")
        return
    for what, value in (
        ("requests/s", found["per_second"]),
        ("p99 ms", found["p99"] / 1000),
        ("memory MB", most[0] / 1e6),
    ):
        figures[f"{size:,} sessions at once, {what}"][gateway.name].append(value)


def _note(notes: list[str], what: str, name: str, found: dict[str, float]) -> None:
    if found["errors"]:
        notes.append(f"{what}: {name}: {found['errors']:.0f} errors of {found['requests']:.0f} requests")
    if found["passed"]:
        notes.append(f"{what}: {name}: {found['passed']:.0f} sessions passed by the proxy: its figure is too good")


def _report(figures: Figures, ways: list[str], notes: list[str]) -> Report:
    columns = ["tproxy" if way == "netrec" else way for way in ways]
    report = Report(["", *columns], notes=notes)
    for measure in AIMS:
        report.rows.append([measure, *(_of_haproxy(figures[measure], way) for way in ways)])
    for measure in [name for name in figures if name.endswith(" us")]:
        kind, _, rest = measure.partition(", ")
        cells = [median([a - b for a, b in _paired(figures[measure], way)]) for way in ways[1:]]
        report.rows.append([f"added to {kind}, {rest}", None, *cells])
    for measure in [name for name in figures if name.startswith("CPU")]:
        report.rows.append([measure, None, *_medians(figures[measure], ways[1:])])
    scaled = [name for name in figures if " at once, " in name]
    for what in ("requests/s", "p99 ms", "memory MB"):
        for measure in (name for name in scaled if name.endswith(what)):
            cells = _medians(figures[measure], ways)
            report.rows.append([measure, *(None if what == "memory MB" and not cell else cell for cell in cells)])
    report.rows.append(["memory per 1,000 sessions, MB", *(_memory_each(figures, way) for way in ways)])
    for measure, aim in AIMS.items():
        ratio = median(ratios(figures[measure], "netrec", "haproxy"))
        report.targets.append(Target(f"{measure}, tproxy of HAProxy", ratio, aim, "x", at_least=True))
    if "mitmproxy" in ways:
        for measure in list(AIMS)[:2]:
            ratio = median(ratios(figures[measure], "netrec", "mitmproxy"))
            report.targets.append(Target(f"{measure}, tproxy of mitmproxy", ratio, AGAINST_MITMPROXY, "x", True))
    return report


def _medians(values: dict[str, list[float]], ways: list[str]) -> list[float | None]:
    return [median(values[way]) if values.get(way) else None for way in ways]


def _paired(values: dict[str, list[float]], way: str) -> list[tuple[float, float]]:
    return list(zip(values[way], values["direct"], strict=True))


def _of_haproxy(values: dict[str, list[float]], way: str) -> str:
    return f"{number(median(values[way]))} ({number(median(ratios(values, way, 'haproxy')))} x)"


def _memory_each(figures: Figures, way: str) -> float | None:
    """What a thousand sessions more take: between ten at once and the most that this way was asked for."""
    found = {size: figures[f"{size:,} sessions at once, memory MB"].get(way) for size in SIZES}
    known = {size: values[0] for size, values in found.items() if values and values[0]}
    if len(known) < 2:
        return None
    least, most = min(known), max(known)
    return (known[most] - known[least]) / (most - least) * 1000
