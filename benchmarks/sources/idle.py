"""Idle sessions: memory of netrec's proxy and of HAProxy, from 10 to 10,000 sessions open at once.

Resident memory of all processes of the proxy (shared pages shared out), against what it was without sessions; the
kernel's sockets (slab) are the same for both and not counted.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import time

from benchmarks.harness import Options, Report, Target, scratch
from benchmarks.sources.gateways import PORT, Gateway, Laboratory
from tests.support.namespaces import Network

SIZES = (10, 100, 1000, 4000, 10_000)
# HAProxy's own limit here: two descriptors and two pipe ends a session, of 20,000.
HAPROXY_MOST = 4000
LIMIT = 10_000.0


def run(options: Options) -> Report:
    report = Report(["way", "sessions", "memory, bytes", "bytes/session", "CPU, seconds per second"])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with scratch() as folder, Network() as network:
        laboratory = Laboratory(network, folder)
        for gateway in (laboratory.haproxy(), laboratory.netrec()):
            sizes = [size for size in SIZES if gateway.name != "haproxy" or size <= HAPROXY_MOST]
            base = _warm(laboratory, gateway)
            for size in sizes if not options.quick else sizes[:3]:
                _measure(report, laboratory, gateway, size, base)
    each = [float(row[3]) for row in report.rows if row[0] == "netrec" and int(row[1]) >= 1000]
    report.targets.append(Target("memory per idle session through netrec, the most", max(each), LIMIT, "bytes"))
    return report


def _warm(laboratory: Laboratory, gateway: Gateway) -> int:
    """Memory after a hundred sessions that are over: everything that is loaded once is loaded."""
    for _ in range(100):
        laboratory.fetch(gateway)
    time.sleep(2.5)
    return gateway.memory()


def _measure(report: Report, laboratory: Laboratory, gateway: Gateway, size: int, base: int) -> None:
    with contextlib.ExitStack() as stack:
        with laboratory.client.entered():
            clients = [
                stack.enter_context(socket.create_connection((gateway.address, PORT), timeout=30)) for _ in range(size)
            ]
        for client in clients:
            client.sendall(b"GET /1k HTTP/1.1\r\nHost: x\r\n\r\n")
            client.recv(4096)
        time.sleep(1.0)
        memory, cpu, begun = gateway.memory(), gateway.cpu(), time.monotonic()
        time.sleep(2.0)
        busy = (gateway.cpu() - cpu) / (time.monotonic() - begun)
    report.rows.append([gateway.name, size, memory, (memory - base) / size, busy])
    time.sleep(1.0)
