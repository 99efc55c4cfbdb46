"""An ordinary day of a small web shop, 24 hours in a little over three minutes: nothing goes wrong."""

from __future__ import annotations

import json

from sample_traces.sample import Sample
from sample_traces.stage import Stage

HOUR_SECONDS = 8.0
# Requests per second in each hour: quiet at night, a peak in the early afternoon.
RATES = (2.0, 1.5, 1.2, 1.0, 1.0, 1.5, 3.0, 5.0, 8.0, 10.0, 11.0, 11.5, 12.5, 14.0, 13.5, 12.5, 12.0, 11.0, 10.0, 9.0,
         7.5, 6.0, 4.5, 3.0)  # fmt: skip
SHARES = {"pages": 0.4, "images": 0.1, "orders": 0.5}
BACKUP_HOURS = (2, 3)
BACKUP_RATE = "20M"  # bits per second
COOKIE_BYTES = 37  # iperf3 says who it is on its data connection before the data
FIRST_PORT, LAST_PORT = 40_000, 40_999


def play(stage: Stage) -> None:
    site = stage.site(delay=0.003)
    backup = stage.namespace("backup")
    link = stage.link(backup, site.web)
    backup.start("iperf3", "--server", "--bind", link.first.ipv4, "--port", "5201", "--forceflush")
    stage.listening(backup, 5201)
    # nginx closes its connections to the application, and each holds its port for 60 s: what a day's peak fills.
    site.web.sysctl(net__ipv4__ip_local_port_range=f"{FIRST_PORT} {LAST_PORT}")
    targets = {"pages": site.url(2000), "images": site.url(20_000), "orders": site.url("api/2000")}
    with stage.recording("ordinary-day", home=site.web):
        weights = tuple(1 / (rank + 1) for rank in range(len(site.sources)))
        users = stage.clients(
            site.clients, targets, rate=RATES[0], shares=SHARES, sources=site.sources, weights=weights
        )
        for hour, rate in enumerate(RATES):
            users.change(rate=rate)
            if hour == BACKUP_HOURS[0]:
                copy = site.web.start(
                    *("iperf3", "--client", link.first.ipv4, "--port", "5201", "--bitrate", BACKUP_RATE),
                    *("--time", f"{len(BACKUP_HOURS) * HOUR_SECONDS:.0f}", "--json"),
                )
            stage.phase(f"{hour:02}", HOUR_SECONDS)
        copied = json.loads(copy.communicate(timeout=60)[0])
        counts = users.end()
    stage.known["ordinary-day"] |= {
        "service": f"{site.front.second.ipv4}:80",
        "application": f"{site.front.second.ipv4}:8000",
        "copy": {"service": f"{link.first.ipv4}:5201", "bytes": copied["end"]["sum_sent"]["bytes"] + COOKIE_BYTES},
        "ports": LAST_PORT - FIRST_PORT + 1,
        "peak_hour": f"{RATES.index(max(RATES)):02}",
        "counts": counts,
    }


SAMPLE = Sample(
    37,
    {"ordinary-day": "an ordinary day of a web shop in a little over three minutes"},
    play,
    """
## What was recorded

24 "hours" of 8 s each of a small web shop by `netrec record --source ebpf,host --events --host-interval 2s`, both ends
of every connection; the gauges are those of the namespace `web`, whose `net.ipv4.ip_local_port_range` was narrowed to
{ports:,} ports.

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.37.1.101 to 10.37.1.112 | users: pages, images and orders, 1 to 14 connections a second |
| web | {service}, 10.37.2.1, 10.37.3.2 | nginx; behind it, for orders, the application on port 8000; an iperf3 client |
| database | 10.37.2.2 | redis-server on port 6379 |
| backup | {copy[service]} | iperf3 server, to which the hours 02 and 03 copy 20 Mbit/s |

## What is known

Nothing goes wrong. `netrec analyze capacity ordinary-day` says that the ephemeral ports fill first: nginx opens a
connection for each order and closes it, and it holds its port for 60 s. Hour {peak_hour} has the most users. What
`netrec analyze incident` finds is the copy at night, an elephant flow.

| what | connections | bytes sent | bytes received |
| --- | --- | --- | --- |
| pages | {counts[pages][connections]:,} | {counts[pages][client_bytes]:,} | {counts[pages][server_bytes]:,} |
| images | {counts[images][connections]:,} | {counts[images][client_bytes]:,} | {counts[images][server_bytes]:,} |
| orders | {counts[orders][connections]:,} | {counts[orders][client_bytes]:,} | {counts[orders][server_bytes]:,} |

The copy moved {copy[bytes]:,} bytes to {copy[service]}, over one connection beside iperf3's own.
""",
)
