"""A gateway that records with both sources what passes it: HTTP and TLS sessions, datagrams, a full disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sample_traces.sample import Sample
from sample_traces.stage import OPTIONS, Stage

BUSY, QUIET, FULL, AFTER = 20, 5, 4, 4
MESSAGES = 8
SYSLOG = 514
DISK, FREE = "64M", "16MB"
REQUESTS = {
    "pages": "GET /2000",
    "images": "GET /20000",
    "orders": "GET /api/200: status 502",
    "typing-error": "GET /2001: status 404",
}
RATES = {"pages": 0.4, "images": 0.2, "orders": 0.1, "typing-error": 0.1, "shop": 0.5, "accounts": 0.3}


@contextmanager
def small_disk(trace: Path) -> Iterator[Path]:
    """A small disk of its own for a trace: a file that fills it. The trace stays when the disk goes."""
    shutil.rmtree(trace, ignore_errors=True)
    trace.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "netrec-sample", trace], check=True)
    kept = trace.with_name(f".{trace.name}")
    try:
        yield trace / ".filler"
        shutil.copytree(trace, kept, ignore=lambda *_: {".filler", ".spool"})
    finally:
        subprocess.run(["umount", trace], check=True)
    trace.rmdir()
    kept.rename(trace)


def play(stage: Stage) -> None:
    office, gateway, servers = map(stage.namespace, ("office", "gateway", "servers"))
    near, far = stage.link(office, gateway), stage.link(gateway, servers)
    gateway.sysctl(net__ipv4__ip_forward=1)
    stage.network.route(office, near.second.ipv4)
    stage.network.route(servers, far.first.ipv4)
    stage.nginx(servers)
    stage.drop(servers, f"udp dport {SYSLOG} drop")
    server = far.second.ipv4
    targets = {
        "pages": f"http://{server}:80/2000",
        "images": f"http://{server}:80/20000",
        "orders": f"http://{server}:80/api/200",
        "typing-error": f"http://{server}:80/2001",
        "shop": f"https://{server}:443/2000",
        "accounts": f"https://{server}:443/200",
    }
    names = {"shop": "secure.shop.example", "accounts": "accounts.shop.example"}
    options = ("--source", "ebpf,tproxy,host", *OPTIONS[2:], "--interface", near.second.device)
    options += ("--protocols", "tcp,udp", "--min-free", FREE)
    with small_disk(stage.output / "gateway") as filler, stage.recording("gateway", gateway, options):
        users = stage.clients(office, targets, rate=8, shares=RATES, names=names)
        stage.phase("busy", BUSY)
        for number in range(MESSAGES):
            office.run("logger", "--udp", "--server", server, "--port", str(SYSLOG), f"message {number}")
        counts = users.end()
        stage.phase("quiet", QUIET)  # what the clients did is in the trace before its disk is full
        filler.write_bytes(bytes(56 << 20))
        stage.phase("disk_full", FULL)
        filler.unlink()
        stage.phase("after", AFTER)
    stage.known["gateway"] |= {
        "office": near.first.ipv4,
        "server": server,
        "syslog": f"{server}:{SYSLOG}",
        "messages": MESSAGES,
        "names": names,
        "counts": counts,
        "requests": "\n".join(
            f"| {asked} | shop.example | {counts[label]['connections']} | {counts[label]['client_bytes']:,} "
            f"| {counts[label]['server_bytes']:,} |"
            for label, asked in REQUESTS.items()
        ),
    }


SAMPLE = Sample(
    39,
    {"gateway": "sessions through a gateway, seen by its proxy and by the kernel; unanswered datagrams; a full disk"},
    play,
    """
## What was recorded

Half a minute on a gateway by `netrec record --source ebpf,tproxy,host --interface veth1b --events --protocols tcp,udp
--min-free 16MB`. netrec's proxy takes every TCP session that the office opens, dials its server with the office's
address and port, and sees its TLS server name or its HTTP request; the kernel's rows have round-trip times and
retransmits of both of the proxy's connections.

| namespace | address | what runs there |
| --- | --- | --- |
| office | {office} | clients, each request a connection of its own; sends {messages} syslog datagrams |
| gateway | 10.39.1.2, 10.39.2.1 | netrec |
| servers | {server} | nginx on ports 80 and 443; a firewall drops what goes to the syslog port |

The trace was on a disk of its own, of 64 MB. From {phases[disk_full][since]} to {phases[disk_full][until]}, after the
clients had ended, another file filled it: only gauges were lost.

## What is known

`netrec analyze sessions gateway` has one line for each of these connections, `http-requests` one for each of the first
four kinds, `one-way-flows` the {messages} datagrams to {syslog}, and `gaps` the full disk, once for each source.

| what | name | connections | bytes sent | bytes received |
| --- | --- | --- | --- | --- |
{requests}
| TLS | {names[shop]} | {counts[shop][connections]:,} | encrypted | encrypted |
| TLS | {names[accounts]} | {counts[accounts][connections]:,} | encrypted | encrypted |
""",
)
