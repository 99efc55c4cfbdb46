"""Regressions recorded from a real service: every one found, and named where it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness import Options, Report, Target
from benchmarks.recorded.recording import ask, folder, known, record
from sample_traces.sample import Sample
from sample_traces.stage import Program, Site, Stage
from tests.support.namespaces import end_process

GROUP = "regressions"
SECONDS = 100  # before, and as long after
QUICK, QUICK_SECONDS = "loss_quick", 66  # the fewest that a comparison takes
# What a release engineer lets decide; the lives of connections that carry one request each are the service's times.
DECIDING = ("retransmit_ratio", "connect_failure_ratio", "life_p50", "life_p95")
AT_ONCE = 2


@dataclass(frozen=True)
class Scene:
    """`start` sets the loads going, `regress` makes `site` worse; `place` is what the first slice must name."""

    site: Site
    start: Callable[[], Sequence[Program]]
    regress: Callable[[], object]
    place: str


def run(options: Options) -> Report:
    """Record every regression (`quick`: one short one), compare before with after, and the reverse as a control."""
    names = [QUICK] if options.quick else [name for name in WORKLOADS if name != QUICK]
    recorded = record([(GROUP, name) for name in names], AT_ONCE)
    start = time.monotonic()
    report = Report(["recorded", "verdict", "metrics", "first slice", "known place", "after against before"])
    found = placed = 0
    done = [name for name in names if name not in recorded.problems]
    deciding = [part for metric in DECIDING for part in ("--fail-on", metric)]
    for name in done:
        trace = next(iter(WORKLOADS[name].traces))
        phases, place = known(trace)["phases"], known(trace)["place"]
        before, after = (f"{phases[phase]['since']}/{phases[phase]['until']}" for phase in ("before", "after"))
        told = ask("compare", folder(trace), "--baseline", before, "--candidate", after, *deciding)
        back = ask("compare", folder(trace), "--baseline", after, "--candidate", before, *deciding)
        metrics = [row["metric"] for row in told["metrics"] if row["verdict"] == "regressed"]
        slices = told.get("slices") or [{"dimension": "-", "value": "-"}]
        found += told["verdict"] == "regressed"
        placed += told["verdict"] == "regressed" and place in slices[0]["value"]
        first = f"{slices[0]['dimension']} {slices[0]['value']}"
        report.rows.append([trace, told["verdict"], ", ".join(metrics) or "-", first, place, back["verdict"]])
    report.targets = [
        Target("found regressed", float(found), float(len(names)), at_least=True),
        Target("named in the right slice", float(placed), float(len(names)), at_least=True),
        Target("better called regressed", float(sum(row[-1] == "regressed" for row in report.rows)), 0.0),
    ]
    report.notes = recorded.notes(start)
    return report


def _regression(number: int, name: str, what: str, build: Callable[[Stage], Scene], seconds: float = SECONDS) -> Sample:
    def play(stage: Stage) -> None:
        scene = build(stage)
        with stage.recording(name, home=scene.site.web):
            loads = scene.start()
            stage.phase("before", seconds)
            scene.regress()
            stage.phase("after", seconds)
            stage.known[name] |= {"counts": [load.end() for load in loads], "place": scene.place}

    return Sample(number, {name: what}, play)


def _loss(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    office, router = stage.office(site)
    return Scene(
        site,
        lambda: [
            stage.users(site, 24, sources=site.sources),
            stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=14, upload=15_000, seed=2),
        ],
        lambda: stage.drop(router, "numgen random mod 100 < 5 drop", hook="forward"),
        office.ipv4,
    )  # fmt: skip


def _slow_server(stage: Stage) -> Scene:
    site = stage.site(delay=0.010)
    # Of two kinds in equal parts, the median would be that of one or the other by chance.
    shares = {"pages": 1.0, "api": 3.0}
    return Scene(
        site,
        lambda: [stage.users(site, 40, sources=site.sources, shares=shares)],
        lambda: site.application.change(delay=0.020),
        f"{site.front.second.ipv4}:8000",
    )  # fmt: skip


def _half_the_workers(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    settings = {"delay": 0.1, "database": site.back.second.ipv4}
    jobs = stage.server(site.front.second, 8001, workers=8, **settings)

    def restart() -> None:
        end_process(jobs.process)
        stage.server(site.front.second, 8001, workers=4, **settings)

    return Scene(
        site,
        lambda: [
            stage.clients(site.clients, {"pages": site.url(2000)}, rate=16, sources=site.sources),
            stage.clients(site.clients, {"jobs": site.url(2000, 8001)}, rate=30, sources=site.sources, seed=2),
        ],
        restart,
        f"{site.front.second.ipv4}:8001",
    )


def _small_window(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    return Scene(
        site,
        lambda: [
            stage.clients(site.clients, {"images": site.url(200_000), "api": site.url(200, 8000)},
                          rate=40, sources=site.sources)
        ],
        lambda: site.clients.sysctl(net__ipv4__tcp_rmem="4096 4096 4096"),
        f"{site.front.second.ipv4}:80",
    )  # fmt: skip


WORKLOADS: dict[str, Sample] = {
    "loss": _regression(71, "regression-loss", "5% lost on one path", _loss),
    "slow_server": _regression(72, "regression-slow-server", "10 ms more in the application", _slow_server),
    "half_the_workers": _regression(73, "regression-half-the-workers", "4 workers, not 8", _half_the_workers),
    "small_window": _regression(74, "regression-small-window", "receive buffers of 4 kB", _small_window),
    QUICK: _regression(75, "regression-loss-quick", "5% lost on one path, briefly", _loss, QUICK_SECONDS),
}
