"""A host that tries every address and port of a network, beside ordinary traffic."""

from __future__ import annotations

import json
import sys

from sample_traces.sample import Sample
from sample_traces.stage import Stage

BEFORE, SCAN, AFTER = 40, 40, 20
HOSTS = 30
PORTS = (21, 22, 23, 25, 80, 110, 143, 443, 445, 3306, 3389, 5432, 6379, 8080)


def play(stage: Stage) -> None:
    site = stage.site(delay=0.002)
    scanner = stage.namespace("scanner")
    link = stage.link(scanner, site.web)
    # The hosts of the scanned network are addresses of one namespace; only its nginx listens, on all of them.
    hosts = stage.addresses(link.second, HOSTS)
    with stage.recording("port-scan", home=site.web):
        clients = stage.clients(site.clients, {"pages": site.url(2000), "api": site.url(2000, 8000)},
                                rate=16, sources=site.sources)  # fmt: skip
        stage.phase("before", BEFORE)
        settings = {"addresses": hosts, "ports": PORTS, "rate": HOSTS * len(PORTS) / SCAN}
        scan = scanner.start(sys.executable, "-m", "sample_traces.programs", "scan", json.dumps(settings))
        stage.phase("scan", SCAN)
        assert scan.stdout is not None
        found = json.loads(scan.stdout.readline())
        stage.phase("after", AFTER)
        counts = clients.end()
    stage.known["port-scan"] |= {
        "scanner": link.first.ipv4,
        "scan": {**found, "hosts": HOSTS, "ports": len(PORTS)},
        "counts": counts,
    }


SAMPLE = Sample(
    36,
    {"port-scan": "a scan of a network's addresses and ports beside ordinary traffic"},
    play,
    """
## What was recorded

A little under two minutes by `netrec record --source ebpf,host --events --host-interval 2s`, both ends of every
connection:

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.36.1.101 to 10.36.1.112 | 16 requests a second, to nginx and to the application |
| web | 10.36.1.2, 10.36.3.101 to 10.36.3.130 | nginx on port 80 of all, the application on port 8000 of the first |
| scanner | {scanner} | connects to {scan[ports]} ports of each of {scan[hosts]} addresses, and closes at once |

## What is known

`netrec analyze security port-scan` names {scanner} and nobody else.

| what | value |
| --- | --- |
| contacts | {scan[contacts]:,} |
| of them refused | {scan[refused]:,} |
| of them open | {scan[open]:,} |
| requests of the clients | {counts[pages][connections]:,} pages, {counts[api][connections]:,} to the application |
""",
)
