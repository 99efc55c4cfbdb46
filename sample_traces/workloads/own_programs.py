"""A minute with the three programs that come with netrec and with --dns: what flows alone do not tell."""

from __future__ import annotations

from sample_traces.sample import Sample
from sample_traces.stage import OPTIONS, Stage

BEFORE, UNANSWERED, SLOW, AFTER = 15, 1.5, 20, 25
ACCEPTS = 6
LOST_PERCENT = 5
PROGRAMS = ("accept_latency", "network_wakeups", "window_collapses")


def play(stage: Stage) -> None:
    site = stage.site(backlog=256)
    office, router = stage.office(site)
    resolver = stage.resolver(site.front.second)
    stage.drop(router, f"numgen random mod 100 < {LOST_PERCENT} drop", hook="forward")
    options = (*OPTIONS, "--dns", *(word for name in PROGRAMS for word in ("--program", name)))
    with stage.recording("own-programs", home=site.web, options=options):
        users = stage.clients(site.clients, {"pages": site.url(2000), "orders": site.url(2000, 8000)},
                              rate=16, sources=site.sources, resolver=site.front.second.ipv4)  # fmt: skip
        sender = stage.clients(office.namespace, {"reports": site.url(200, 80)}, rate=3, upload=60_000, seed=2)
        stage.phase("before", BEFORE)
        resolver.change(answers=False)
        stage.phase("unanswered", UNANSWERED)
        resolver.change(answers=True)
        site.application.change(accepts=ACCEPTS)
        stage.phase("slow", SLOW)
        site.application.change(accepts=0)
        stage.phase("after", AFTER)
        counts = {**users.end(), **sender.end()}
    stage.known["own-programs"] |= {
        "service": f"{site.front.second.ipv4} 8000",
        "resolver": site.front.second.ipv4,
        "office": office.ipv4,
        "counts": counts,
    }


SAMPLE = Sample(
    38,
    {"own-programs": "a slow accept, a resolver that falls silent and a lossy path, seen by programs of one's own"},
    play,
    """
## What was recorded

A minute of a small web site by `netrec record --source ebpf,host --events --dns --program accept_latency --program
network_wakeups --program window_collapses`, both ends of every connection.

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.38.1.101 to 10.38.1.112 | 16 requests a second, each after a look-up: to nginx, to the application |
| office | {office} | sends reports of 60 kB to nginx through a router that loses 5% of the packets (nftables) |
| web | 10.38.1.2, 10.38.2.1 | nginx on port 80, the application on port 8000, a name server on port 53 |
| database | 10.38.2.2 | redis-server on port 6379 |

From {phases[unanswered][since]} to {phases[unanswered][until]} the name server answers nothing; from
{phases[slow][since]} to {phases[slow][until]} the application accepts 6 connections a second, while 8 a second arrive.

## What is known

`netrec analyze accept-latency own-programs` names {service}, `dns` its failures, `window-collapses` the office's path.

| what | connections | bytes sent | bytes received |
| --- | --- | --- | --- |
| pages | {counts[pages][connections]:,} | {counts[pages][client_bytes]:,} | {counts[pages][server_bytes]:,} |
| orders | {counts[orders][connections]:,} | {counts[orders][client_bytes]:,} | {counts[orders][server_bytes]:,} |
| reports | {counts[reports][connections]:,} | {counts[reports][client_bytes]:,} | {counts[reports][server_bytes]:,} |
""",
)
