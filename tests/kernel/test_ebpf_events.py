"""The events table on a real kernel: made on purpose, counted by the kernel itself, and equal."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from typing import Any

import pytest

from tests.support import traffic
from tests.support.ebpf import Recording
from tests.support.namespaces import Link, Namespace, Network

pytestmark = pytest.mark.kernel


def total(rows: list[dict[str, Any]]) -> int:
    return sum(row["count"] for row in rows)


def counters(space: Namespace, file: str, section: str) -> dict[str, int]:
    """A section of /proc/net/snmp or netstat of a namespace."""
    lines = [line.split() for line in space.run("cat", f"/proc/net/{file}").stdout.splitlines()]
    names, values = (line for line in lines if line[0] == f"{section}:")
    return dict(zip(names[1:], map(int, values[1:]), strict=True))


def test_retransmits_are_as_many_as_the_kernel_counts(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    server.run("nft", "add rule inet t c tcp dport 7000 numgen inc mod 20 10 counter drop")
    with server.entered():
        service = traffic.Server(link.second.ipv4, 7000)
    with Recording(events=True) as recording:
        with service, client.entered():
            traffic.exchange(link.second.ipv4, 7000, [(2_000_000, 1000)] * 3 + [(100, 100)] * 30)
        recording.until(lambda: len(recording.of(server.inode)) >= 33)
    events = recording.events_of(client.inode, "retransmit")
    rows = recording.of(client.inode)
    kernel = counters(client, "snmp", "Tcp")["RetransSegs"]
    assert total(events) == sum(row["client_retransmits"] for row in rows) == kernel > 0
    by_flow: dict[int, int] = {}
    for event in events:
        by_flow[event["flow_id"]] = by_flow.get(event["flow_id"], 0) + event["count"]
        assert event["reason"] in ("open", "disorder", "cwr", "recovery", "loss", "syn")
        assert event["process_pid"] == os.getpid()
        assert (event["role"], event["server_port"], event["transport"]) == ("client", 7000, "tcp")
    assert by_flow == {row["flow_id"]: row["client_retransmits"] for row in rows if row["client_retransmits"]}
    drops = recording.events_of(server.inode, "drop")
    lost = [event for event in drops if event["reason"] == "NETFILTER_DROP"]
    # The filter counts buffers, of which one may carry many segments.
    match = re.search(r"counter packets (\d+)", server.run("nft", "list", "ruleset").stdout)
    assert match and total(lost) >= int(match[1]) > 0
    assert {event["client_address"] for event in lost} == {link.first.ipv4}
    assert recording.health.events_lost == 0


def test_a_flow_that_has_no_row_yet_keeps_the_number_that_its_event_was_given(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    with server.entered():
        service = traffic.Server(link.second.ipv4, 7001)
    with Recording(events=True, active_timeout=3600.0) as recording, service:
        with client.entered():
            held = traffic.connect(link.second.ipv4, 7001)
        traffic.talk(held, 100, 100)
        server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
        server.run("nft", "add rule inet t c tcp dport 7001 drop")
        held.sendall(bytes(1000))
        recording.until(lambda: recording.events_of(client.inode, "retransmit"))
        assert not recording.of(client.inode)
        server.run("nft", "delete table inet t")
        held.close()
        recording.until(lambda: recording.of(client.inode))
    (row,) = recording.of(client.inode)
    assert {event["flow_id"] for event in recording.events_of(client.inode, "retransmit")} == {row["flow_id"]}
    assert row["client_bytes"] == 1100
    assert row["start_time"] == row["flow_start_time"] and row["connect_latency_us"] is not None


def test_failed_connects_tell_why(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    server.run("nft", "add rule inet t c tcp dport 7777 drop")
    server.run("nft", "add rule inet t c tcp dport 7778 reject with icmpx admin-prohibited")
    client.sysctl(net__ipv4__ip_local_port_range="40000 40001")
    with Recording(events=True) as recording:
        with client.entered():
            for source in (None, None, None):
                with contextlib.suppress(ConnectionRefusedError):
                    traffic.connect(link.second.ipv4, 9, source)
            for port in (7777, 7778):
                with socket.socket() as patient, pytest.raises(OSError):
                    patient.setsockopt(socket.SOL_TCP, socket.TCP_SYNCNT, 1)
                    patient.connect((link.second.ipv4, port))
            with socket.socket() as impatient:
                impatient.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    impatient.connect((link.second.ipv4, 7777))
            waiting = []
            for _ in range(2):  # all the ports there are, for two minutes
                waiting.append(socket.socket())
                waiting[-1].setblocking(False)
                assert waiting[-1].connect_ex((link.second.ipv4, 7777))
            with pytest.raises(OSError):
                traffic.connect(link.second.ipv4, 7777)
        recording.until(lambda: total(recording.events_of(client.inode, "connect_failed")) >= 7)
        for one in waiting:
            one.close()
    found: dict[tuple[int, str], int] = {}
    for event in recording.events_of(client.inode, "connect_failed"):
        key = (event["server_port"], event["reason"])
        found[key] = found.get(key, 0) + event["count"]
        assert event["process_pid"] == os.getpid() and event["role"] == "client"
    assert found == {
        (9, "ECONNREFUSED"): 3,
        (7777, "ETIMEDOUT"): 1,
        (7778, "EHOSTUNREACH"): 1,
        (7777, "closed_by_application"): 3,
        (7777, "EADDRNOTAVAIL"): 1,
    }
    refused = recording.events_of(server.inode, "reset_sent")
    assert {(event["server_port"], event["role"], event["reason"]) for event in refused} == {(9, "server", "NO_SOCKET")}
    assert total(refused) == counters(server, "snmp", "Tcp")["OutRsts"] == 3
    assert total(recording.events_of(client.inode, "reset_received")) == 3


def test_resets_of_connections_carry_their_flow(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    with server.entered():
        service = traffic.Server(link.second.ipv4)
    with Recording(events=True) as recording:
        with service, client.entered():
            traffic.exchange(link.second.ipv4, service.port, [(500, 700)] * 4, reset=True)
        recording.until(lambda: len(recording.of(server.inode)) >= 4)
    for space, kind in ((client, "reset_sent"), (server, "reset_received")):
        events = recording.events_of(space.inode, kind)
        assert total(events) == 4
        assert {event["flow_id"] for event in events} == {row["flow_id"] for row in recording.of(space.inode)}
        assert {event["client_port"] for event in events} == {row["client_port"] for row in recording.of(space.inode)}


def test_a_full_backlog_names_its_listener(network: Network) -> None:
    space = network.namespace()
    with space.entered():
        listener = socket.create_server(("127.0.0.1", 0), backlog=2)
        port = listener.getsockname()[1]
        with contextlib.ExitStack() as stack, Recording(events=True) as recording:
            stack.callback(listener.close)
            with contextlib.ExitStack() as clients:
                for _ in range(12):  # nobody accepts
                    client = clients.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", port))
                recording.until(lambda: total(recording.events_of(space.inode, "listen_overflow")) >= 9)
                time.sleep(1.2)  # the clients try again
                recording.run(0.3)
            # Nobody tries any more: what the kernel has counted stays.
            kernel = counters(space, "netstat", "TcpExt")["ListenOverflows"]
            recording.read()
    events = recording.events_of(space.inode, "listen_overflow")
    assert total(events) == kernel
    for event in events:
        assert (event["server_address"], event["server_port"]) == ("127.0.0.1", port)
        assert (event["client_address"], event["client_port"], event["role"]) == (None, None, "server")
        assert event["process_pid"] == os.getpid() and event["reason"] == "ListenOverflows"


def test_a_full_queue_of_handshakes_names_its_listener(network: Network) -> None:
    space = network.namespace()
    space.sysctl(net__ipv4__tcp_syncookies=0)
    space.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    space.run("nft", "add rule inet t c tcp flags & (syn | ack) == syn | ack drop")  # no handshake ends
    with space.entered():
        listener = socket.create_server(("127.0.0.1", 0), backlog=4)
    address = listener.getsockname()
    with listener, Recording(events=True) as recording:
        with contextlib.ExitStack() as stack, space.entered():
            for _ in range(20):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
        recording.until(lambda: recording.events_of(space.inode, "syn_drop"))
    events = recording.events_of(space.inode, "syn_drop")
    kernel = counters(space, "netstat", "TcpExt")
    assert total(events) == kernel["ListenDrops"] == kernel["TCPReqQFullDrop"] > 0 == kernel["ListenOverflows"]
    for event in events:
        assert (event["server_address"], event["server_port"], event["role"]) == (*address, "server")
        assert event["process_pid"] == os.getpid() and event["reason"] == "ListenDrops"
    assert not recording.events_of(space.inode, "listen_overflow")


def test_a_reader_that_does_not_read_is_a_zero_window(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    with server.entered():
        listener = socket.create_server((link.second.ipv4, 0))
    with listener, client.entered(), socket.create_connection(listener.getsockname()) as sender:
        accepted, _ = listener.accept()
        with accepted, Recording(events=True) as recording:
            sender.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.send(bytes(65536))
            recording.until(lambda: recording.events_of(server.inode, "zero_window"))
            recording.until(lambda: recording.events_of(client.inode, "zero_window"))
    (event, *_) = recording.events_of(server.inode, "zero_window")
    assert event["reason"] == "TCPToZeroWindowAdv"
    assert event["server_address"] is None and event["transport"] == "tcp"
    # The other end asks whether there is room again.
    assert {event["reason"] for event in recording.events_of(client.inode, "zero_window")} == {"TCPWinProbe"}


def test_equal_events_are_one_row_with_a_count(network: Network) -> None:
    space = network.namespace()
    with Recording(events=True) as recording, space.entered():
        port, source = 9, 4000  # neither is ever given to a socket that asks for any
        for _ in range(50):
            with socket.socket() as client:
                client.bind(("127.0.0.1", source))
                assert client.connect_ex(("127.0.0.1", port))
        recording.read()
    (event,) = recording.events_of(space.inode, "reset_sent")
    assert (event["count"], event["server_port"], event["client_port"]) == (50, port, source)


def test_events_that_do_not_fit_are_counted(network: Network) -> None:
    space = network.namespace()
    with Recording(events=True, max_events=10) as recording, space.entered():
        for source in range(4000, 4040):  # the kernel may give a port twice, and what is alike is counted together
            with socket.socket() as client:
                client.bind(("127.0.0.1", source))
                assert client.connect_ex(("127.0.0.1", 9))
        recording.read()
        lost = recording.source.health().lost_in_map
        # What the kernel's own counters tell, of whatever listens on this host, needs no room in the map.
        counted = {"listen_overflow", "syn_drop", "zero_window"}
        kept = sum(event["kind"] not in counted for event in recording.events)
    assert 0 < kept <= 10
    # Each is a reset sent, a reset received, a failed connect and a dropped packet.
    assert lost >= 4 * 40 - 10 - 1
