"""A release that loses its connection pool: the same requests, but each with a connection of its own."""

from __future__ import annotations

from sample_traces.sample import Sample
from sample_traces.stage import Stage

BEFORE, AFTER = 120, 80
POOL = 6


def play(stage: Stage) -> None:
    site = stage.site(delay=0.002)
    caller = stage.namespace("caller")
    link = stage.link(caller, site.web)
    url = f"http://{link.second.ipv4}:8001/1000"
    stage.server(link.second, 8001, delay=0.002)
    with stage.recording("churn-release", home=site.web):
        calls = stage.clients(caller, {"calls": url}, rate=30, pool=POOL)
        pages = stage.clients(site.clients, {"pages": site.url(2000)}, rate=4, sources=site.sources, seed=2)
        stage.phase("before", BEFORE)
        calls.change(pool=0)
        stage.phase("release", AFTER)
        counts = {**calls.end(), **pages.end()}
    stage.known["churn-release"] |= {
        "service": f"{link.second.ipv4}:8001",
        "caller": link.first.ipv4,
        "counts": counts,
        "incident": {"phase": "release", "pattern": "churn"},
    }


SAMPLE = Sample(
    34,
    {"churn-release": "a release loses its connection pool: before and after"},
    play,
    """
## What was recorded

A little over three minutes by `netrec record --source ebpf,host --events --host-interval 2s`, both ends of every
connection:

| namespace | address | what runs there |
| --- | --- | --- |
| caller | {caller} | 30 requests a second to the application |
| clients | 10.34.1.101 to 10.34.1.112 | 4 pages a second from nginx, a connection each |
| web | {service} and others | the application, and nginx on port 80 |

Until {phases[release][since]} the caller keeps a few connections and uses them again; from then on, as after a release
that lost its pool, every request opens its own. The requests stay the same.

## What is known

`netrec analyze incident churn-release` names connection churn, by the process and client that cause it, and
`netrec analyze compare churn-release --baseline {phases[before][since]}/{phases[before][until]}` shows what it did:
many times the connections per second at the same bytes per second.

| what | requests | connections |
| --- | --- | --- |
| calls | {counts[calls][requests]:,} | {counts[calls][connections]:,} |
| pages | {counts[pages][requests]:,} | {counts[pages][connections]:,} |
""",
)
