"""The ebpf source on a real kernel: traffic of which every byte is known comes out as exactly that."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from netrec.filter import Filter
from tests.support import traffic
from tests.support.bpftool import bpftool
from tests.support.ebpf import Recording
from tests.support.namespaces import Link, Network, wait_until

pytestmark = pytest.mark.kernel
SIZES = [(1000 + 37 * number, 2000 + 11 * number) for number in range(23)]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["client_address"], row["client_port"], row["server_address"], row["server_port"]


def wire(connection: traffic.Connection) -> tuple[Any, ...]:
    return connection.client_address, connection.client_port, connection.server_address, connection.server_port


@pytest.mark.parametrize("version", [4, 6])
def test_23_connections_come_out_as_exactly_that(link: Link, version: int) -> None:
    client, server = link.first.namespace, link.second.namespace
    address = link.second.address(version)
    with Recording() as recording:
        with server.entered():
            service = traffic.Server(address)
        with service, client.entered():
            done = traffic.exchange(address, service.port, SIZES)
        recording.until(lambda: len(recording.of(server.inode)) >= 23)
    expected = {wire(one): (one.client_bytes, one.server_bytes) for one in done}
    for inode, role, duplicate in ((client.inode, "client", False), (server.inode, "server", True)):
        rows = recording.of(inode)
        assert {key(row): (row["client_bytes"], row["server_bytes"]) for row in rows} == expected
        assert len(rows) == 23
        for row in rows:
            assert row["role"] == role and not row["role_inferred"]
            assert row["duplicate"] is duplicate
            assert row["tcp_close"] == "fin" and row["flow_end_reason"] == "end"
            assert row["transport"] == "tcp" and row["network_type"] == f"ipv{version}"
            assert row["process_pid"] == os.getpid()
            assert row["flow_start_time"] == row["start_time"] <= row["end_time"]
            assert row["rtt_us"] > 0
            assert (row["connect_latency_us"] is not None) == (role == "client")
            assert row["client_packets"] >= 4 and row["server_packets"] >= 3
    assert recording.health.events_lost == 0


def test_a_connection_to_an_ipv4_address_through_an_ipv6_socket_is_shown_as_ipv4(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording:
        with space.entered():
            listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
            client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        accepted, _ = listener.accept()
        for one in (client, accepted, listener):
            one.close()
        recording.until(lambda: len(recording.of(space.inode)) >= 2)
    assert {(row["network_type"], row["client_address"]) for row in recording.of(space.inode)} == {
        ("ipv4", "127.0.0.1")
    }


def test_what_was_open_before_counts_from_the_start_of_the_recording(network: Network) -> None:
    space = network.namespace()
    with space.entered():
        service = traffic.Server("127.0.0.1")
        client = traffic.connect("127.0.0.1", service.port)
    with service, client:
        client.sendall(traffic.HEADER.pack(16 + 5000 + 777, 0) + bytes(5000))
        wait_until(lambda: not traffic.unacknowledged(client), "all has arrived, and is known to have")
        with Recording() as recording:
            client.sendall(bytes(777))
            recording.run(0.2)
            client.close()
            recording.until(lambda: len(recording.of(space.inode)) >= 2)
    rows = recording.of(space.inode)
    assert {(row["role"], row["client_bytes"], row["server_bytes"]) for row in rows} == {
        ("client", 777, 0),
        ("server", 777, 0),
    }
    for row in rows:
        assert row["flow_start_time"] is None
        assert row["role_inferred"]
        assert row["duplicate"] is (row["role"] == "server")
        assert row["connect_latency_us"] is None
        assert (row["process_pid"], row["process_source"]) == (os.getpid(), "close")


def test_a_flow_that_stays_open_has_a_row_an_active_timeout_and_a_forced_one(network: Network) -> None:
    space = network.namespace()
    with space.entered():
        service = traffic.Server("127.0.0.1")
    results: list[traffic.Connection] = []

    def send() -> None:
        with space.entered():
            results.append(traffic.upload("127.0.0.1", service.port, 6.0, rate=5e6))

    with service:
        with Recording(active_timeout=1.0) as recording:
            thread = threading.Thread(target=send)
            thread.start()
            longest, last = 0.0, time.monotonic()
            while thread.is_alive():
                recording.run(0.01)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()
            with space.entered():
                held = traffic.connect("127.0.0.1", service.port)
            held_port = traffic.talk(held, 100, 50).client_port
        held.close()
    rows = recording.of(space.inode, role="client", client_port=results[0].client_port)
    assert [row["flow_end_reason"] for row in rows] == ["active"] * (len(rows) - 1) + ["end"]
    # One a second of the wall clock, where the machine did not stand still.
    for row in rows[1:-1]:
        assert timedelta(seconds=0.5) <= row["end_time"] - row["start_time"] <= timedelta(seconds=1.5 + 2 * longest)
    seconds = {row["end_time"].replace(microsecond=0) for row in rows[:-1]}
    assert len(seconds) == len(rows) - 1 >= 2
    assert sum(row["client_bytes"] for row in rows) == results[0].client_bytes
    assert len({row["flow_id"] for row in rows}) == 1
    for before, after in itertools.pairwise(rows):
        assert after["start_time"] == before["end_time"]
    assert sum(row["connect_latency_us"] is not None for row in rows) == 1
    rows = recording.of(space.inode, role="client", client_port=held_port)
    assert (rows[-1]["flow_end_reason"], rows[-1]["tcp_close"]) == ("forced", None)
    assert [sum(row[name] for row in rows) for name in ("client_bytes", "server_bytes")] == [100, 50]


def test_connections_that_fail_are_rows_without_bytes(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    nowhere = link.first.ipv4.rsplit(".", 1)[0] + ".77"  # on the link, but nobody answers: no neighbour
    server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    server.run("nft", "add rule inet t c tcp dport 7777 drop")
    client.sysctl(net__ipv4__tcp_syn_retries=1)
    with Recording() as recording:
        with client.entered():
            traffic.refused(link.second.ipv4, 9, 3)
            for address, port in ((link.second.ipv4, 7777), (nowhere, 80)):
                with pytest.raises(OSError):
                    traffic.connect(address, port)
        recording.until(lambda: len(recording.of(client.inode)) >= 5)
    rows = recording.of(client.inode)
    assert len(rows) == 5
    for row in rows:
        assert row["tcp_close"] == "connect_failed"
        assert (row["client_bytes"], row["server_bytes"]) == (0, 0)
        assert row["process_source"] == "connect" and row["process_pid"] == os.getpid()
        assert row["connect_latency_us"] is None


@pytest.mark.parametrize(("address", "shown"), [("192.0.2.7", "0.0.0.0"), ("2001:db8::7", "::")])
def test_a_connection_without_a_route_is_a_failed_one(network: Network, address: str, shown: str) -> None:
    space = network.namespace()
    with space.entered():
        service = traffic.Server("127.0.0.1")
    with Recording(events=True) as recording, service:
        with space.entered():
            for _ in range(3):
                with pytest.raises(OSError, match=r"unreachable|assign"):
                    traffic.connect(address, 80)
            # Twice on one socket, which then finds its way and is a connection like any other.
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as again:
                for _ in range(2):
                    assert again.connect_ex((address, 81))
                if ":" not in address:
                    again.connect(("127.0.0.1", service.port))
        recording.until(lambda: len(recording.of(space.inode, tcp_close="connect_failed")) >= 5)
    failed = recording.of(space.inode, tcp_close="connect_failed")
    assert [row["server_port"] for row in failed] == [80, 80, 80, 81, 81]
    for row in failed:
        assert (row["server_address"], row["client_address"], row["client_port"]) == (address, shown, 0)
        assert (row["client_bytes"], row["server_bytes"], row["role"]) == (0, 0, "client")
        assert row["process_source"] == "close" and row["process_pid"] == os.getpid()
    if ":" not in address:
        assert len(recording.of(space.inode, server_port=service.port, role="client")) == 1
    events = [one for one in recording.events_of(space.inode, "connect_failed") if one["server_port"] == 80]
    assert {one["reason"] for one in events} == {"not_sent"} and sum(one["count"] for one in events) == 3
    assert {one["flow_id"] for one in events} <= {row["flow_id"] for row in failed if row["server_port"] == 80}


def test_a_filter_decides_on_a_connection_without_a_route(network: Network) -> None:
    space = network.namespace()
    with Recording(filter=Filter.read("net 2001:db8::/32 and dst port 80")) as recording:
        with space.entered():
            for address, port in (("192.0.2.7", 80), ("2001:db8::7", 81), ("2001:db8::7", 80)):
                with pytest.raises(OSError, match=r"unreachable|assign"):
                    traffic.connect(address, port)
        recording.until(lambda: recording.of(space.inode))
    found = [(row["server_address"], row["server_port"], row["tcp_close"]) for row in recording.of(space.inode)]
    assert found == [("2001:db8::7", 80, "connect_failed")]


def test_retransmitted_bytes_are_not_counted_twice(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    # Data only: a last acknowledgement that is lost makes TIME_WAIT, which has no row, send another.
    server.run("nft", "add rule inet t c tcp dport 7000 meta length > 100 numgen inc mod 20 10 drop")
    with server.entered():
        service = traffic.Server(link.second.ipv4, 7000)
    with Recording() as recording:
        with service, client.entered():
            done = traffic.exchange(link.second.ipv4, 7000, [(3_000_000, 1000)] * 3)
        recording.until(lambda: len(recording.of(server.inode)) >= 3)
    rows = recording.of(client.inode)
    assert sorted(row["client_bytes"] for row in rows) == sorted(one.client_bytes for one in done)
    assert [row["server_bytes"] for row in rows] == [1000] * 3
    assert {row["client_bytes"] for row in recording.of(server.inode)} == {3_000_000}
    snmp = [line.split() for line in client.run("cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Tcp:")]
    kernel = dict(zip(snmp[0][1:], map(int, snmp[1][1:]), strict=True))
    assert sum(row["client_retransmits"] for row in rows) == kernel["RetransSegs"] > 0
    assert all(row["server_retransmits"] is None for row in rows)
    assert sum(row["client_packets"] for row in rows) == pytest.approx(
        kernel["OutSegs"] + kernel["RetransSegs"],
        abs=len(rows),  # the last ACK is TIME_WAIT's
    )


def test_resets_are_told_by_who_sent_them(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    with server.entered():
        service = traffic.Server(link.second.ipv4)
    with Recording() as recording:
        with service, client.entered():
            traffic.exchange(link.second.ipv4, service.port, [(500, 700)] * 4, reset=True)
        recording.until(lambda: len(recording.of(server.inode)) >= 4)
    assert [row["tcp_close"] for row in recording.of(client.inode)] == ["rst_sent"] * 4
    rows = recording.of(server.inode)
    assert [row["tcp_close"] for row in rows] == ["rst_received"] * 4
    for row in rows:
        assert (row["client_bytes"], row["server_bytes"]) == (500, 700)
        assert row["process_pid"] == os.getpid()


def test_data_for_a_closed_socket_is_a_reset_that_we_sent(network: Network) -> None:
    space = network.namespace()
    with space.entered():
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    with listener, Recording() as recording:
        client.close()  # FIN; the server goes on sending, as for a download that was broken off
        for _ in range(3):
            time.sleep(0.05)
            with contextlib.suppress(OSError):
                accepted.sendall(bytes(1000))
        accepted.close()
        recording.until(lambda: len(recording.of(space.inode)) >= 2)
    by_role = {row["role"]: row["tcp_close"] for row in recording.of(space.inode)}
    assert by_role["server"] == "rst_received"
    assert by_role["client"] in ("rst_sent", "fin")  # fin: the socket was already a TIME_WAIT one


def test_owners_of_accepted_and_of_reset_sockets_are_the_real_ones(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording:
        server = space.start(sys.executable, "-m", "tests.support.traffic", "server")
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        for more in ((), ("--reset",)):
            space.run(
                *(sys.executable, "-m", "tests.support.traffic", "client", "--port", str(told["port"])),
                *("--sizes", "100:100", "--repeat", "5", *more),
            )
        recording.until(lambda: len(recording.of(space.inode)) >= 20)
    rows = recording.of(space.inode, role="server")
    assert {row["process_pid"] for row in rows} == {told["pid"]}
    assert {row["process_source"] for row in rows} == {"close"}
    clients = recording.of(space.inode, role="client")
    assert len({row["process_pid"] for row in clients}) == 2
    assert told["pid"] not in {row["process_pid"] for row in clients}


def test_a_process_name_of_strange_bytes_becomes_text(network: Network) -> None:
    space = network.namespace()
    script = (
        "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'a\\x1b[31m\\xff\\n\"x', 0, 0, 0)\n"
        "s = socket.socket(); s.settimeout(5)\n"
        "try: s.connect(('127.0.0.1', 9))\nexcept OSError: pass\n"
    )
    with Recording() as recording:
        space.run(sys.executable, "-c", script)
        recording.until(lambda: recording.of(space.inode))
    (row,) = recording.of(space.inode)
    assert row["process_name"] == 'a\x1b[31m\\xff\n"x'


@pytest.mark.parametrize("setting", [{"ring_size": 4096}, {"max_flows": 40}])
def test_a_full_ring_or_map_is_counted(network: Network, setting: dict[str, int]) -> None:
    space = network.namespace()
    with space.entered():
        service = traffic.Server("127.0.0.1")
    # One at a time: a map that is full of this host's other sockets leaves nothing to fill the ring. More sockets at
    # once than the map has places: with fewer it may happen that each finds one.
    with Recording(**setting) as recording, service:
        with space.entered():
            with traffic.held("127.0.0.1", service.port, [(16, 16)] * 60):
                pass
            traffic.exchange("127.0.0.1", service.port, [(16, 16)] * 20)
        time.sleep(0.3)
        recording.read()
        health = recording.source.health()
    closed = recording.of(space.inode, flow_end_reason="end")
    assert len(closed) < 160
    if "max_flows" in setting:
        assert health.lost_in_map > 0 and 80 <= (health.map_limit or 0) < 80 + 15
        assert health.map_used is not None and health.map_used <= health.map_limit
    else:
        assert health.lost_in_ring > 0 and health.ring_limit == 4096 and closed


def test_what_ends_when_nobody_looks_any_more_has_its_row(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that end just before the programs are detached, between that and the last scan, and not at all."""
    space = network.namespace()
    recording = Recording()
    with space.entered(), socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        recording.source.start()
        pairs = [(traffic.connect("127.0.0.1", port), listener.accept()[0]) for _ in range(3)]
        for number, (client, _) in enumerate(pairs, start=1):
            client.sendall(bytes(number))
        detach = recording.source._detach

        def detached() -> None:
            for end in pairs[0]:
                end.close()
            detach()
            for end in pairs[1]:
                end.close()

        monkeypatch.setattr(recording.source, "_detach", detached)
        try:
            recording._take(recording.source.stop())
        finally:
            monkeypatch.undo()
            recording.source.close()
        for end in pairs[2]:
            end.close()
    found = sorted((row["client_bytes"], row["flow_end_reason"]) for row in recording.of(space.inode, role="client"))
    assert found == [(1, "end"), (2, "forced"), (3, "forced")]


def test_nothing_is_left_in_the_kernel() -> None:
    before = bpf_programs()
    with Recording():
        ours = bpf_programs() - before
        assert len(ours) >= 8
    # Programs are freed after a grace period of the kernel.
    wait_until(lambda: not ours & bpf_programs(), "all programs gone")


def bpf_programs() -> set[int]:
    """The ids of all loaded programs."""
    return {one["id"] for one in bpftool("prog", "list")}
