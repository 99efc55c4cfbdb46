"""A real resolver (glibc's) asks a server over UDP and TCP, IPv4 and IPv6; what is captured beside gives its names."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from recorder.dns.observer import DnsObserver
from recorder.dns.packet import dissect
from tests.support.name_server import name_server, resolving
from tests.support.namespaces import Network

pytestmark = pytest.mark.kernel

PROGRAM = """
import ctypes, socket, sys
ctypes.CDLL(None)
for name in sys.argv[1:]:
    try:
        print(name, *sorted({answer[4][0] for answer in socket.getaddrinfo(name, 80)}))
    except OSError:
        print(name)
"""


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_a_resolver_learns(network: Network, address: str, tmp_path: Path) -> None:
    namespace = network.namespace("dns")
    with namespace.entered():
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        capture.bind(("lo", 3))
        capture.settimeout(0.3)
    names = ["web.example", "big.example", "missing.example"]
    with capture, name_server(namespace, address):
        done = namespace.run(*resolving(tmp_path / "resolv.conf", address, "python3", "-c", PROGRAM, *names))
        observer = DnsObserver()
        packets = 0
        while True:
            try:
                packet, link = capture.recvfrom(65535)
            except TimeoutError:
                break
            if link[2] == socket.PACKET_OUTGOING:  # on loopback every packet is seen twice
                continue
            packets += 1
            found = dissect(packet)
            if found and (found.payload or found.opens):
                observer.observe(
                    found.payload,
                    time.monotonic_ns() // 1000,
                    found.conversation,
                    from_server=found.from_server,
                    sequence=found.sequence,
                    opens=found.opens,
                    closes=found.closes,
                )
    learned = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert set(learned) == {"web.example", "big.example"}, done.stdout
    now = time.monotonic_ns() // 1000
    for name, addresses in learned.items():
        assert {observer.names.name_for(address, now) for address in addresses.split()} == {name}
    assert len(learned["big.example"].split()) == 300
    assert (observer.counts.malformed, observer.counts.unmatched) == (0, 0)
    events = observer.take_events(now)
    assert {(event.name, event.kind, event.reason) for event in events} == {
        ("web.example", "dns_query", None),
        ("big.example", "dns_query", "truncated"),
        ("big.example", "dns_query", None),
        ("missing.example", "dns_failure", "NXDOMAIN"),
    }
    assert all(event.duration_us is not None and event.duration_us >= 0 for event in events)
