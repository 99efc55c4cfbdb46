"""Incidents that are recorded for the benchmark only: each is quiet, goes wrong for 45 s, and recovers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sample_traces.programs import TIMEOUT
from sample_traces.sample import Sample
from sample_traces.stage import OPTIONS, Program, Stage
from tests.support.namespaces import Namespace, end_process

BEFORE, WRONG, AFTER = 100, 45, 45


@dataclass(frozen=True)
class Scene:
    """`start` sets the loads going; `place` is what the answer must name ("": there is no one place)."""

    home: Namespace
    start: Callable[[], Sequence[Program]]
    go_wrong: Callable[[], object]
    recover: Callable[[], object]
    place: str = ""


def _incident(
    number: int, name: str, what: str, pattern: str, build: Callable[[Stage], Scene], options: Sequence[str] = OPTIONS
) -> Sample:
    def play(stage: Stage) -> None:
        scene = build(stage)
        with stage.recording(name, home=scene.home, options=options):
            loads = scene.start()
            stage.phase("before", BEFORE)
            scene.go_wrong()
            stage.phase("wrong", WRONG)
            scene.recover()
            stage.phase("after", AFTER)
            stage.known[name]["counts"] = [load.end() for load in loads]
        stage.known[name]["incident"] = {"phase": "wrong", "pattern": pattern, "place": scene.place}

    return Sample(number, {name: what}, play)


def _loss(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    office, router = stage.office(site)
    return Scene(
        site.web,
        lambda: [
            stage.clients(site.clients, {"pages": site.url(2000)}, rate=16, sources=site.sources),
            stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=12, upload=15_000, seed=2),
        ],
        lambda: stage.drop(router, "numgen random mod 100 < 8 drop", hook="forward"),
        lambda: stage.restore(router),
        office.ipv4,
    )


def _refused(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    return Scene(
        site.web,
        lambda: [stage.users(site, 24, sources=site.sources)],
        lambda: end_process(site.application.process),
        lambda: stage.server(site.front.second, 8000, delay=0.003),
        f"{site.front.second.ipv4}:8000",
    )  # fmt: skip


def _aborted(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    return Scene(
        site.web,
        lambda: [stage.users(site, 24, sources=site.sources)],
        lambda: site.application.change(abort=0.5),
        lambda: site.application.change(abort=0.0),
        f"{site.front.second.ipv4}:8000",
    )  # fmt: skip


def _stalled(stage: Stage) -> Scene:
    site = stage.site()
    # A request is larger than what the receiver's buffer can become: only then is its window ever shut.
    site.web.sysctl(net__ipv4__tcp_rmem="4096 131072 131072")
    feeder = stage.namespace("feeder")
    link = stage.link(feeder, site.web)
    store = stage.server(link.second, 9000)
    feed = {"feed": f"http://{link.second.ipv4}:9000/200"}
    return Scene(
        site.web,
        lambda: [
            stage.clients(site.clients, {"pages": site.url(2000)}, rate=12, sources=site.sources),
            stage.clients(feeder, feed, rate=20, pool=8, concurrency=8, upload=400_000, timeout=90, seed=2),
        ],
        lambda: store.change(read=False),
        lambda: store.change(read=True),
        f"{link.second.ipv4}:9000",
    )


def _black_hole(stage: Stage, fits: int = 1300, upload: int = 15_000) -> Scene:
    site = stage.site(delay=0.003)
    office, router = stage.office(site)
    # The kernel gives up on data after 15 tries, a quarter of an hour; here after 5, some seconds.
    office.namespace.sysctl(net__ipv4__tcp_retries2=5)
    return Scene(
        site.web,
        lambda: [
            stage.clients(site.clients, {"pages": site.url(2000)}, rate=12, sources=site.sources),
            stage.clients(office.namespace, {"lookups": site.url(200, 8000)}, rate=8, seed=2),
            stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=6, upload=upload, seed=3),
        ],
        lambda: stage.drop(router, f"meta length > {fits} drop", hook="forward"),
        lambda: stage.restore(router),
        office.ipv4,
    )


def _incast(stage: Stage, servers: int = 16, size: int = 200_000) -> Scene:
    site = stage.site(delay=0.003)
    storage = stage.namespace("storage")
    # Senders that pace themselves (BBR, where the host's default is that) do not fill a buffer together.
    storage.sysctl(net__ipv4__tcp_congestion_control="reno")
    link = stage.link(site.web, storage)
    stage.nginx(storage)
    nodes = stage.addresses(link.second, servers)

    def ask(size: int) -> dict[str, str]:
        return {f"node{number}": f"http://{node}:80/{size}" for number, node in enumerate(nodes)}

    # A switch port with a small buffer: more than it holds at once is dropped, however little a second carries. It
    # counts packets with data: nft's limit of bytes lets a whole second's pass at once.
    limit = f"limit rate over 2000/second burst {8 * servers} packets"
    stage.drop(site.web, f"iifname {link.first.device} meta length > 1000 {limit} drop")
    fan: list[Program] = []

    def start() -> Sequence[Program]:
        fan.append(stage.clients(site.web, ask(2000), rate=2, fan=True, seed=2))
        return [stage.clients(site.clients, {"pages": site.url(2000)}, rate=12, sources=site.sources), *fan]

    return Scene(
        site.web,
        start,
        lambda: fan[0].change(targets=ask(size)),
        lambda: fan[0].change(targets=ask(2000)),
        link.first.ipv4,
    )


def _names(stage: Stage) -> Scene:
    site = stage.site(delay=0.003)
    names = stage.namespace("names")
    link = stage.link(site.clients, names)
    resolver = stage.resolver(link.second)
    return Scene(
        site.clients,
        lambda: [stage.users(site, 16, resolver=link.second.ipv4)],
        lambda: resolver.change(answers=False),
        lambda: resolver.change(answers=True),
        f"{link.second.ipv4}:53",
    )  # fmt: skip


WITH_UDP = (*OPTIONS, "--protocols", "tcp,udp", "--idle-timeout", "5s")
OFTEN = (*OPTIONS, "--active-timeout", "2s")
assert WRONG > TIMEOUT  # what hangs is seen to end
WORKLOADS: dict[str, Sample] = {
    "packet_loss": _incident(51, "packet-loss", "8% lost on one path", "retransmit-storm", _loss),
    "refused": _incident(52, "refused", "the application is down", "rst-spike", _refused),
    "aborted": _incident(53, "aborted", "the application ends half its connections with RST", "rst-spike", _aborted),
    "stalled": _incident(54, "stalled", "a receiver stops reading", "zero-window", _stalled, OFTEN),
    "black_hole": _incident(55, "black-hole", "large packets vanish on one path", "mtu-black-hole", _black_hole),
    "incast": _incident(56, "incast", "16 servers answer one client at once", "incast", _incast),
    "small_mtu": _incident(
        58,
        "small-mtu",
        "on another path, much smaller ones, too",
        "mtu-black-hole",
        partial(_black_hole, fits=900, upload=60_000),
    ),
    "wide_incast": _incident(
        59,
        "wide-incast",
        "32 servers, a larger port",
        "incast",
        partial(_incast, servers=32),
    ),
    "names": _incident(57, "names", "the name server stops answering", "dns", _names, WITH_UDP),
}
