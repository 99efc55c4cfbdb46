"""An application that accepts too slowly for a while: its accept queue overflows, SYNs are dropped and sent again."""

from __future__ import annotations

from sample_traces.sample import Sample
from sample_traces.stage import Stage

BEFORE, SLOW, AFTER = 100, 45, 45
BACKLOG = 16


def play(stage: Stage) -> None:
    site = stage.site(backlog=BACKLOG)
    with stage.recording("accept-queue", home=site.web):
        clients = stage.clients(site.clients, {"pages": site.url(2000), "orders": site.url(2000, 8000)},
                                rate=24, sources=site.sources)  # fmt: skip
        stage.phase("before", BEFORE)
        site.application.change(accepts=5)
        stage.phase("slow", SLOW)
        site.application.change(accepts=0)
        stage.phase("after", AFTER)
        counts = clients.end()
    stage.known["accept-queue"] |= {
        "service": f"{site.front.second.ipv4}:8000",
        "counts": counts,
        "incident": {"phase": "slow", "pattern": "accept-queue"},
    }


SAMPLE = Sample(
    32,
    {"accept-queue": "an application's accept queue overflows for 45 s"},
    play,
    """
## What was recorded

A little over three minutes of a small web site by `netrec record --source ebpf,host --events --host-interval 2s`, both
ends of every connection; the gauges are those of the namespace `web`.

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.32.1.101 to 10.32.1.112 | 24 requests a second, a connection each: to nginx and to the application |
| web | 10.32.1.2, 10.32.2.1 | nginx on port 80, the application on port 8000 with a backlog of 16 |
| database | 10.32.2.2 | redis-server on port 6379 |

From {phases[slow][since]} to {phases[slow][until]} the application accepts 5 connections a second, while
12 a second arrive.

## What is known

`netrec analyze incident accept-queue` names an accept-queue overflow of {service}: the listen queue overflowed, and
connects took 1 or 3 s because their SYN was dropped and sent again. nginx, on the same host, was fine.

| what | connections | bytes sent | bytes received |
| --- | --- | --- | --- |
| pages | {counts[pages][connections]:,} | {counts[pages][client_bytes]:,} | {counts[pages][server_bytes]:,} |
| orders | {counts[orders][connections]:,} | {counts[orders][client_bytes]:,} | {counts[orders][server_bytes]:,} |
""",
)
