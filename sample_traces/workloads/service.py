"""The same service twice: as it always was, and with 5% of the packets lost on the path to one of its offices."""

from __future__ import annotations

from sample_traces.sample import Sample
from sample_traces.stage import Site, Stage
from tests.support.namespaces import End

SECONDS = 140
# The 99th percentile is judged from 1,000 connections in each eighth of the recording.
NEAR, FAR = 64, 20  # requests a second
LOST_PERCENT = 5


def play(stage: Stage) -> None:
    site = stage.site(delay=0.003)
    office, router = stage.office(site)
    for name in SAMPLE.traces:
        if name == "service-regressed":
            stage.drop(router, f"numgen random mod 100 < {LOST_PERCENT} drop", hook="forward")
        _record(stage, name, site, office)


def _record(stage: Stage, name: str, site: Site, office: End) -> None:
    with stage.recording(name, home=site.web):
        near = stage.clients(site.clients, {"pages": site.url(2000), "api": site.url(2000, 8000)},
                             rate=NEAR, sources=site.sources)  # fmt: skip
        far = stage.clients(office.namespace, {"reports": site.url(200, 8000)}, rate=FAR, upload=15_000, seed=2)
        stage.phase("all", SECONDS)
        counts = {**near.end(), **far.end()}
    known = stage.known[name]
    known["near"], known["far"] = NEAR, FAR
    known["office"] = office.ipv4
    known["service"] = f"{site.front.second.ipv4}:8000"
    known["counts"] = counts


SAMPLE = Sample(
    31,
    {
        "service-baseline": "a small web site and its office, as they always were",
        "service-regressed": f"the same site with {LOST_PERCENT}% of the packets lost on the path to the office",
    },
    play,
    """
## What was recorded

The same service twice, each time for a little over two minutes, by one `netrec record --source ebpf,host --events` on
the host of all the namespaces, so that both ends of every connection are in the trace:

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.31.1.101 to 10.31.1.112 | requests to port 80 (nginx) and port 8000 (application), {near} a second |
| office | {office} | sends reports of 15 kB to the application, {far} a second, through a router |
| web | 10.31.1.2, 10.31.2.1 | nginx on port 80, the application on port 8000 |
| database | 10.31.2.2 | redis-server on port 6379 |

In `service-regressed` the router drops 5% of the packets of either direction (nftables, `numgen random mod 100 < 5`).
Nothing else differs.

## What is known

`netrec analyze compare service-baseline service-regressed` finds it regressed: retransmits, all of them of the client
{office}. Of its connections, those whose SYN is lost take a second longer to open. `service-baseline` against itself
passes what `--fail-on retransmit_ratio` asks for; latencies of some hundredths of a millisecond on a busy host are no
ground for a verdict in so short a time, and netrec says so.

| what | connections | bytes sent | bytes received |
| --- | --- | --- | --- |
| pages | {counts[pages][connections]:,} | {counts[pages][client_bytes]:,} | {counts[pages][server_bytes]:,} |
| api | {counts[api][connections]:,} | {counts[api][client_bytes]:,} | {counts[api][server_bytes]:,} |
| reports | {counts[reports][connections]:,} | {counts[reports][client_bytes]:,} | {counts[reports][server_bytes]:,} |
""",
)
