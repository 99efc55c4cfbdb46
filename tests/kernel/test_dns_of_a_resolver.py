"""A real resolver (glibc's) asks a server over UDP and TCP, IPv4 and IPv6; what is captured beside gives its names."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from recorder.dns.observer import DnsObserver
from recorder.dns.packet import dissect
from tests.support.namespaces import Namespace, Network

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


def answer(wire: bytes, *, over_tcp: bool) -> bytes:
    """What the test's name server says; `big` names need TCP."""
    query = dns.message.from_wire(wire)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA  # without it glibc takes an empty answer for a referral
    question = query.question[0]
    name, kind = question.name.to_text(), dns.rdatatype.to_text(question.rdtype)
    if name.startswith("missing"):
        response.set_rcode(dns.rcode.NXDOMAIN)
    elif name.startswith("big") and not over_tcp:
        response.flags |= dns.flags.TC
    else:
        response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "alias.example."))
        count = 150 if name.startswith("big") else 2
        last = {"A": "192.0.2.", "AAAA": "2001:db8::"}[kind]
        addresses = [f"{last}{number + (10 if name.startswith('big') else 1)}" for number in range(count)]
        response.answer.append(dns.rrset.from_text("alias.example.", 30, "IN", kind, *addresses))
    return response.to_wire(max_size=65535)


def serve_udp(server: socket.socket) -> None:
    while True:
        try:
            query, client = server.recvfrom(4096)
        except OSError:
            return
        if not query:  # shut down
            return
        server.sendto(answer(query, over_tcp=False), client)


def serve_tcp(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection, connection.makefile("rwb") as stream:
            while length := stream.read(2):
                wire = answer(stream.read(int.from_bytes(length, "big")), over_tcp=True)
                stream.write(len(wire).to_bytes(2, "big") + wire)
                stream.flush()


@contextmanager
def name_server(namespace: Namespace, address: str) -> Iterator[None]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with namespace.entered():
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.bind((address, 53))
        tcp = socket.create_server((address, 53), family=family)
    threads = [threading.Thread(target=serve_udp, args=(udp,)), threading.Thread(target=serve_tcp, args=(tcp,))]
    for thread in threads:
        thread.daemon = True
        thread.start()
    try:
        yield
    finally:
        for one in (udp, tcp):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            one.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_a_resolver_learns(network: Network, address: str, tmp_path: Path) -> None:
    namespace = network.namespace("dns")
    configuration = tmp_path / "resolv.conf"
    configuration.write_text(f"nameserver {address}\noptions timeout:5\n")
    with namespace.entered():
        capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        capture.bind(("lo", 3))
        capture.settimeout(0.3)
    names = ["web.example", "big.example", "missing.example"]
    with capture, name_server(namespace, address):
        # Only this command's view of /etc/resolv.conf is changed.
        script = 'mount --bind "$0" /etc/resolv.conf && exec python3 -c "$@"'
        done = namespace.run("unshare", "--mount", "sh", "-c", script, configuration, PROGRAM, *names)
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
        assert observer.names_for(addresses.split(), now) == [name] * len(addresses.split())
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
