"""A worker that opens a connection for every job until it has no ephemeral port left for one server."""

from __future__ import annotations

from sample_traces.sample import Sample
from sample_traces.stage import Stage

BEFORE, FLOOD, AFTER = 100, 45, 45
FIRST_PORT, LAST_PORT = 40_000, 40_499


def play(stage: Stage) -> None:
    site = stage.site()
    worker = site.clients
    # The kernel keeps a closed connection's port for 60 s; a range this narrow is used up quickly.
    worker.sysctl(net__ipv4__ip_local_port_range=f"{FIRST_PORT} {LAST_PORT}")
    with stage.recording("ephemeral-ports", home=worker):
        jobs = stage.clients(worker, {"jobs": site.url(2000, 8000)}, rate=4)
        pages = stage.clients(worker, {"pages": site.url(2000)}, rate=2, seed=2)
        stage.phase("before", BEFORE)
        jobs.change(rate=24)
        stage.phase("flood", FLOOD)
        jobs.change(rate=4)
        stage.phase("after", AFTER)
        counts = {**jobs.end(), **pages.end()}
    failed = counts["jobs"].get("Cannot assign requested address", 0)
    stage.known["ephemeral-ports"] |= {
        "service": f"{site.front.second.ipv4}:8000",
        "worker": site.front.first.ipv4,
        "ports": LAST_PORT - FIRST_PORT + 1,
        "counts": counts,
        "failed": failed,
        "incident": {"phase": "flood", "pattern": "ephemeral-ports"},
    }


SAMPLE = Sample(
    33,
    {"ephemeral-ports": "a worker uses up its ephemeral ports towards one server"},
    play,
    """
## What was recorded

A little over three minutes of a worker and the services that it calls, by
`netrec record --source ebpf,host --events --host-interval 2s`, both ends of every connection; the gauges are those of
the worker's namespace, whose `net.ipv4.ip_local_port_range` was narrowed to {ports} ports to make it quick.

| namespace | address | what runs there |
| --- | --- | --- |
| worker | {worker} | jobs, each with a connection of its own to the application, 4 a second; and 2 pages a second |
| web | 10.33.1.2, 10.33.2.1 | nginx on port 80, the application on port 8000 |
| database | 10.33.2.2 | redis-server on port 6379 |

From {phases[flood][since]} to {phases[flood][until]} there are 24 jobs a second. The worker closes its
connections, so each holds its port for another 60 s.

## What is known

`netrec analyze incident ephemeral-ports` names an exhaustion of ephemeral ports: connects to {service} fail
before a SYN is sent, while pages, on another port, still come.

| what | value |
| --- | --- |
| jobs that could not connect (EADDRNOTAVAIL) | {failed:,} |
| jobs that connected | {counts[jobs][connections]:,} |
| pages | {counts[pages][connections]:,} |
""",
)
