"""UDP and ICMP on a real kernel: every byte, every packet, every peer, and who it was."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sys
import threading
import time
from typing import Any

import pytest

from recorder.bpf import syscalls
from recorder.sources.ebpf.owners import cgroup2_mount
from recorder.sources.ebpf.programs import datagram_slots
from tests.support.bpftool import bpftool
from tests.support.datagrams import Echo, ask
from tests.support.ebpf import Recording
from tests.support.namespaces import Link, Network, wait_until

pytestmark = pytest.mark.kernel
COUNTS = ("client_bytes", "server_bytes", "client_packets", "server_packets")


def recording_of(**settings: Any) -> Recording:
    return Recording(**{"protocols": ("tcp", "udp", "icmp")} | settings)


def totals(rows: list[dict[str, Any]]) -> tuple[int, ...]:
    return tuple(sum(row[name] for row in rows) for name in COUNTS)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("connected", [True, False])
def test_bytes_and_packets_are_exact(link: Link, version: int, connected: bool) -> None:
    client, server = link.first.namespace, link.second.namespace
    address = link.second.address(version)
    sizes = [1, 0, 100, 1400, 20000, 7]  # one that has no payload, one of many fragments
    with recording_of() as recording:
        with server.entered():
            echo = Echo(address)
        with echo, client.entered():
            _, port = ask(address, echo.port, sizes, connected=connected)
    for space, role in ((client, "client"), (server, "server")):
        rows = recording.of(space.inode, transport="udp")
        assert totals(rows) == (sum(sizes), 2 * sum(sizes), len(sizes), len(sizes))
        for row in rows:
            assert (row["client_port"], row["server_port"], row["server_address"]) == (port, echo.port, address)
            assert (row["role"], row["role_inferred"], row["duplicate"]) == (role, False, role == "server")
            assert (row["process_pid"], row["process_source"]) == (os.getpid(), "send")
            assert (row["flow_end_reason"], row["network_type"]) == ("forced", f"ipv{version}")
            assert row["flow_start_time"] == row["start_time"] <= row["end_time"]
            assert (row["tcp_close"], row["client_retransmits"], row["server_retransmits"]) == (None, None, None)
            assert (row["rtt_us"], row["connect_latency_us"]) == (None, None)
    assert recording.health.events_lost == 0


def test_one_socket_with_two_thousand_peers(network: Network) -> None:
    space = network.namespace()
    with recording_of() as recording, space.entered(), Echo("127.0.0.1", factor=1) as echo:
        ports = [ask("127.0.0.1", echo.port, [10 + number % 50], factor=1)[1] for number in range(2000)]
        recording.run(0.2)
        assert echo.received_packets == 2000
    for role in ("client", "server"):
        rows = recording.of(space.inode, role=role)
        assert totals(rows) == (echo.received_bytes, echo.received_bytes, 2000, 2000)
        assert {row["client_port"] for row in rows} == set(ports)
        assert len({row["flow_id"] for row in rows}) >= len(set(ports))


def test_a_flow_that_falls_silent_is_idle_and_one_that_goes_on_is_active(network: Network) -> None:
    space = network.namespace()
    with recording_of(idle_timeout=1.5, active_timeout=1.0) as recording, space.entered(), Echo("127.0.0.1") as echo:
        ask("127.0.0.1", echo.port, [100, 200])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as steady:
            steady.connect(("127.0.0.1", echo.port))
            port = steady.getsockname()[1]
            sent = 0
            end = time.monotonic() + 4
            while time.monotonic() < end:
                steady.send(bytes(50))
                steady.recv(100)
                sent += 1
                recording.run(0.1)
        rows = recording.of(space.inode, role="client", client_port=port)
        assert {row["flow_end_reason"] for row in rows} == {"active"}
        recording.until(lambda: recording.of(space.inode, role="client", client_port=port, flow_end_reason="idle"))
    silent = [row for row in recording.of(space.inode, role="client") if row["client_port"] != port]
    assert [(row["flow_end_reason"], *(row[name] for name in COUNTS)) for row in silent] == [("idle", 300, 600, 2, 2)]
    rows = recording.of(space.inode, role="client", client_port=port)
    assert len(rows) >= 4 and len({row["flow_id"] for row in rows}) == 1
    assert totals(rows) == (50 * sent, 100 * sent, sent, sent)
    for before, after in itertools.pairwise(rows):
        assert after["start_time"] == before["end_time"]


def test_a_socket_that_was_there_before(network: Network) -> None:
    space = network.namespace()
    script = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 5353)); print(flush=True)\n"
        "input(); data, peer = s.recvfrom(100); print(flush=True); input(); s.sendto(b'x' * 30, peer); input()\n"
    )
    server = space.start(sys.executable, "-c", script)
    assert server.stdin and server.stdout
    server.stdout.readline()
    with space.entered():
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect(("127.0.0.1", 5353))
    client.send(bytes(10))  # before the recording: not counted, but the conversation began here
    time.sleep(0.1)
    with client, recording_of() as recording:
        server.stdin.write("\n\n")
        server.stdin.flush()
        assert len(client.recv(100)) == 30
        client.send(bytes(20))
        recording.run(0.1)
    for role, pid, source in (("client", os.getpid(), "send"), ("server", server.pid, "send")):
        (row,) = recording.of(space.inode, role=role)
        assert [row[name] for name in COUNTS] == [20, 30, 1, 1]
        assert (row["server_port"], row["role_inferred"], row["flow_start_time"]) == (5353, True, None)
        assert (row["process_pid"], row["process_source"]) == (pid, source)
        assert row["duplicate"] is (role == "server")


def test_a_socket_that_only_listens_has_the_owner_who_made_it(network: Network) -> None:
    space = network.namespace()
    script = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n"
        "print(s.getsockname()[1], flush=True); input()\n"
    )
    early = space.start(sys.executable, "-c", script)
    assert early.stdout
    ports = {int(early.stdout.readline()): (early.pid, "scan")}
    with recording_of() as recording:
        late = space.start(sys.executable, "-c", script)
        assert late.stdout
        ports[int(late.stdout.readline())] = (late.pid, "create")
        with space.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for port in ports:
                client.sendto(b"hello", ("127.0.0.1", port))
        recording.run(0.1)
    rows = recording.of(space.inode, role="server")
    assert {row["server_port"]: (row["process_pid"], row["process_source"]) for row in rows} == ports


def test_pings_and_their_answers(link: Link) -> None:
    client = link.first.namespace
    client.sysctl(net__ipv4__ping_group_range="0 2147483647")
    with recording_of() as recording, client.entered():
        for version, kind in ((4, 8), (6, 128)):
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            with socket.socket(family, socket.SOCK_DGRAM, protocol) as ping:
                ping.settimeout(5)
                for _ in range(3):
                    ping.sendto(bytes([kind, 0, 0, 0, 0, 0, 0, 1]) + bytes(56), (link.second.address(version), 0))
                    assert len(ping.recv(200)) == 64
    for version, name in ((4, "icmp"), (6, "icmp6")):
        rows = recording.of(client.inode, transport=name, process_pid=os.getpid())
        assert totals(rows) == (3 * 56, 3 * 56, 3, 3)
        (answers,) = (row for row in recording.of(link.second.namespace.inode, transport=name) if row["server_bytes"])
        assert [answers[count] for count in COUNTS] == [0, 3 * 56, 0, 3]  # it is the kernel that reads the questions
        assert answers["process_pid"] is None and answers["duplicate"]
        for row in (*rows, answers):
            assert (row["client_port"], row["server_port"]) == (None, None)
            assert row["server_address"] == link.second.address(version)


def test_what_was_not_asked_for_is_not_recorded(network: Network) -> None:
    space = network.namespace()
    with recording_of(protocols=("udp",)) as recording, space.entered():
        with Echo("127.0.0.1") as echo:
            ask("127.0.0.1", echo.port, [5])
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname()).close()
        recording.run(0.1)
    assert {row["transport"] for row in recording.of(space.inode)} == {"udp"}


def test_packets_that_do_not_fit_into_the_map_are_counted(network: Network) -> None:
    space = network.namespace()
    with recording_of(max_flows=10) as recording, space.entered():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for port in range(20000, 20100):
                client.sendto(b"x", ("127.0.0.1", port))
        recording.read()
        lost = recording.source.health().lost_in_map
    sent = [row for row in recording.of(space.inode, transport="udp") if row["role"] == "client"]
    assert 0 < len(sent) <= 10 + datagram_slots(10)
    assert lost >= 100 - len(sent)


def test_flows_that_begin_on_all_processors_at_once_are_counted_exactly(network: Network) -> None:
    """Who fills a flow's slot, and who comes meanwhile, is settled by chance: hundreds of times here; and more
    flows than there are slots."""
    space, each, workers = network.namespace(), 5, 3
    ports = range(20000, 20800)
    with recording_of() as recording, space.entered():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            start = threading.Barrier(workers)

            def send() -> None:
                start.wait()
                for port in ports:
                    for size in range(1, each + 1):
                        client.sendto(bytes(size), ("127.0.0.1", port))

            threads = [threading.Thread(target=send) for _ in range(workers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        recording.read()
        recording.read()
        assert recording.source.health().lost_in_map == 0
    rows = [row for row in recording.of(space.inode, transport="udp") if row["role"] == "client"]
    counted = {port: [0, 0] for port in ports}
    for row in rows:
        counted[row["server_port"]][0] += row["client_packets"]
        counted[row["server_port"]][1] += row["client_bytes"]
        assert row["process_pid"] == os.getpid()
    expected = [each * workers, sum(range(1, each + 1)) * workers]
    assert counted == dict.fromkeys(ports, expected)


def test_a_kernel_that_lets_the_recorder_wait_loses_no_connection(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an overloaded host a grace period of RCU takes seconds: longer than the ring has room for."""
    space, connections, wait = network.namespace(), 4000, syscalls._wait_for_programs
    server = space.start(sys.executable, "-m", "tests.support.traffic", "server")
    assert server.stdout is not None
    port = json.loads(server.stdout.readline())["port"]
    client = ("client", "--port", str(port), "--sizes", "16:1", "--repeat", str(connections))

    def wait_long() -> None:
        monkeypatch.setattr(syscalls, "_wait_for_programs", wait)
        space.run(sys.executable, "-m", "tests.support.traffic", *client)
        wait()

    with recording_of(ring_size=1 << 20) as recording:
        monkeypatch.setattr(syscalls, "_wait_for_programs", wait_long)
        with space.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"x", ("127.0.0.1", 9))
        recording.read()
        lost = recording.source.health().lost_in_ring
    assert lost == 0
    assert len(recording.of(space.inode, transport="tcp", role="client")) == connections


def test_nothing_is_left_at_the_cgroup(network: Network) -> None:
    def attached() -> set[int]:
        return {one["id"] for one in bpftool("cgroup", "show", str(cgroup2_mount()))}

    before = attached()
    with recording_of():
        ours = attached() - before
        assert len(ours) >= 4
    wait_until(lambda: not ours & attached(), "our programs are off the cgroup")
