"""A bulk copy beside ordinary traffic: one connection that carries nearly all of the bytes."""

from __future__ import annotations

import json

from sample_traces.sample import Sample
from sample_traces.stage import Stage

BEFORE, COPY, AFTER = 90, 45, 45
RATE = "80M"  # bits per second
COOKIE_BYTES = 37  # iperf3 says who it is on its data connection before the data


def play(stage: Stage) -> None:
    site = stage.site(delay=0.002)
    backup = stage.namespace("backup")
    link = stage.link(backup, site.web)
    backup.start("iperf3", "--server", "--bind", link.first.ipv4, "--port", "5201", "--forceflush")
    stage.listening(backup, 5201)
    with stage.recording("bulk-copy", home=site.web):
        clients = stage.clients(site.clients, {"pages": site.url(20_000), "api": site.url(2000, 8000)},
                                rate=24, sources=site.sources)  # fmt: skip
        stage.phase("before", BEFORE)
        copy = site.web.start("iperf3", "--client", link.first.ipv4, "--port", "5201", "--time", str(COPY),
                              "--bitrate", RATE, "--json")  # fmt: skip
        stage.phase("copy", COPY)
        copied = json.loads(copy.communicate(timeout=60)[0])
        stage.phase("after", AFTER)
        counts = clients.end()
    stage.known["bulk-copy"] |= {
        "copy": {
            "client": link.second.ipv4,
            "service": f"{link.first.ipv4}:5201",
            "bytes": copied["end"]["sum_sent"]["bytes"] + COOKIE_BYTES,
        },
        "counts": counts,
        "incident": {"phase": "copy", "pattern": "elephant"},
    }


SAMPLE = Sample(
    35,
    {"bulk-copy": "a bulk copy beside ordinary traffic: an elephant flow"},
    play,
    """
## What was recorded

Three minutes of a small web site by `netrec record --source ebpf,host --events --host-interval 2s`, both ends of every
connection:

| namespace | address | what runs there |
| --- | --- | --- |
| clients | 10.35.1.101 to 10.35.1.112 | 24 requests a second, to nginx and to the application |
| web | 10.35.1.2, {copy[client]} | nginx on port 80, the application on port 8000, and the copy: an iperf3 client |
| backup | {copy[service]} | iperf3 server |

From {phases[copy][since]} on, for 45 s, iperf3 copies at 80 Mbit/s from `web` to `backup`.

## What is known

`netrec analyze incident bulk-copy` names an elephant flow, and `netrec analyze elephants bulk-copy` shows it.

| what | value |
| --- | --- |
| bytes of the copy | {copy[bytes]:,} |
| pages, bytes received | {counts[pages][server_bytes]:,} |
| requests to the application, bytes received | {counts[api][server_bytes]:,} |
""",
)
