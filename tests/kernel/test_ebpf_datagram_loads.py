"""UDP under load on a real kernel, against what the peers themselves counted."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from tests.support.ebpf import Recording
from tests.support.namespaces import Link, Network, wait_until

pytestmark = pytest.mark.kernel
UDP_SEGMENT, UDP_GRO = 103, 104
Counts = dict[int, tuple[int, int, int, int]]


def by_client_port(rows: Iterable[dict[str, Any]]) -> Counts:
    """Client's port -> bytes and packets of the client, bytes and packets of the server."""
    found: Counter[tuple[int, int]] = Counter()
    for row in rows:
        for place, name in enumerate(("client_bytes", "client_packets", "server_bytes", "server_packets")):
            found[row["client_port"], place] += row[name]
    return {port: tuple(found[port, place] for place in range(4)) for port, _ in found}  # type: ignore[misc]


def counted_by_iperf(link: Link, version: int, length: int, port: int) -> Counts:
    """One stream each way for a megabyte each: what iperf3 says that it sent."""
    client, server = link.first.namespace, link.second.namespace
    address = link.second.address(version)
    service = server.start("iperf3", "-s", "-1", "-B", address, "-p", str(port))
    wait_until(lambda: f":{port} " in server.run("ss", "-tlnH").stdout, "iperf3 listens")
    load = ("-u", "--bidir", "-b", "100M", "-n", "1M", "-l", str(length))
    said = json.loads(client.run("iperf3", "-c", address, "-p", str(port), *load, "-J").stdout)
    assert service.wait(20) == 0
    ports = {one["socket"]: one["local_port"] for one in said["start"]["connected"]}
    found = {}
    for stream in (one["udp"] for one in said["end"]["streams"]):
        assert stream["packets"] > 0 and stream["bytes"] == stream["packets"] * length
        # Before the streams each side of each sends one datagram of four bytes.
        sent, other = (stream["bytes"] + 4, stream["packets"] + 1), (4, 1)
        found[ports[stream["socket"]]] = (*sent, *other) if stream["sender"] else (*other, *sent)
    return found


def test_streams_of_iperf3_are_what_it_says(link: Link) -> None:
    """Datagrams that fit into a packet, and such that go in fragments."""
    expected: Counts = {}
    with Recording(protocols=("udp",)) as recording:
        for at, (version, length) in enumerate((version, length) for version in (4, 6) for length in (1200, 8000)):
            counts = counted_by_iperf(link, version, length, 5300 + at)
            assert len(counts) == 2 and not expected.keys() & counts.keys()
            expected |= counts
    for end in (link.first, link.second):
        rows = recording.of(end.namespace.inode, transport="udp")
        assert by_client_port(rows) == expected
        assert {row["process_name"] for row in rows} == {"iperf3"}
    assert recording.health.events_lost == 0


class NameServer:
    """Answers every question with an address, until closed; counts what it got and what it sent by the peer's port."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        self.socket.settimeout(0.05)
        self.counted: Counter[tuple[int, int]] = Counter()
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended = True
        self._thread.join(10)
        self.socket.close()

    def counts(self) -> Counts:
        ports = {port for port, _ in self.counted}
        return {port: tuple(self.counted[port, place] for place in range(4)) for port in ports}  # type: ignore[misc]

    def _serve(self) -> None:
        while not self._ended:
            try:
                question, peer = self.socket.recvfrom(512)
            except TimeoutError:
                continue
            # The question again, one answer: the name of the question (a pointer to it), A, IN, 60 s.
            answer = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question[12:]
            answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\x04\x7f\0\0\x07"
            self.socket.sendto(answer, peer)
            for place, more in enumerate((len(question), 1, len(answer), 1)):
                self.counted[peer[1], place] += more


def resolve(address: str, first: int, count: int) -> None:
    """So many queries, each from a socket, and so a port, of its own."""
    for number in range(first, first + count):
        name = b"host%d" % number
        query = struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + b"\x07example\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect((address, 53))
            client.send(query)
            assert client.recv(512)[:2] == query[:2]


def test_a_name_server_under_load_is_recorded_whole(network: Network) -> None:
    space = network.namespace()
    askers, each = 4, 1000
    with Recording(protocols=("udp",)) as recording:
        with space.entered():
            server = NameServer("127.0.0.1")
            threads = [threading.Thread(target=resolve, args=("127.0.0.1", at * each, each)) for at in range(askers)]
            for thread in threads:
                thread.start()
        try:
            recording.until(lambda: not any(thread.is_alive() for thread in threads), 60)
        finally:
            server.close()
    expected = server.counts()
    assert sum(counts[1] for counts in expected.values()) == askers * each
    for role in ("client", "server"):
        assert by_client_port(recording.of(space.inode, transport="udp", role=role)) == expected
    assert recording.health.events_lost == 0


def send_segments(link: Link, version: int, sizes: list[int], coalesced: bool) -> list[int]:
    """Sends of these sizes, each of which the kernel cuts into datagrams of 1,000 bytes; what was received at once."""
    address, family = link.second.address(version), socket.AF_INET if version == 4 else socket.AF_INET6
    with link.second.namespace.entered():
        sink = socket.socket(family, socket.SOCK_DGRAM)
    with link.first.namespace.entered():
        source = socket.socket(family, socket.SOCK_DGRAM)
    received: list[int] = []
    with sink, source:
        sink.bind((address, 0))
        sink.settimeout(10)
        sink.setsockopt(socket.IPPROTO_UDP, UDP_GRO, int(coalesced))
        source.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        source.connect(sink.getsockname()[:2])
        for at, size in enumerate(sizes, start=1):
            source.send(bytes(size))
            while sum(received) < sum(sizes[:at]):
                received.append(len(sink.recv(65535)))
    return received


@pytest.mark.parametrize("coalesced", [False, True])
def test_what_the_kernel_cuts_into_packets_is_counted_as_packets(link: Link, coalesced: bool) -> None:
    """One send of many datagrams (UDP_SEGMENT), received one by one or put together again (UDP_GRO)."""
    sizes = [30_000, 1_000, 12_345, 1_001]
    packets = 30 + 1 + 13 + 2
    with Recording(protocols=("udp",)) as recording:
        for version in (4, 6):
            assert len(send_segments(link, version, sizes, coalesced)) == (len(sizes) if coalesced else packets)
    for end in (link.first, link.second):
        for version in (4, 6):
            rows = recording.of(end.namespace.inode, transport="udp", network_type=f"ipv{version}")
            (counts,) = by_client_port(rows).values()
            assert counts == (sum(sizes), packets, 0, 0)
