"""The host source against traffic of which every number is known, in namespaces of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset
import pytest

from netrec.errors import CannotRecordError
from recorder.source import CaptureContext, find
from recorder.sources.host.gauge import Increases
from recorder.sources.host.links import links
from recorder.sources.host.namespaces import chosen
from tests.support.namespaces import Link, Namespace, Network, wait_until

pytestmark = pytest.mark.kernel


class Reader:
    """Readings of one namespace, as resource -> (used, limit)."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        settings = {"host_netns": (namespace.name,), "host_interval": 1e-6}
        self.source: Any = find("host").create(CaptureContext("observer", "capture", settings))
        self.source.start()
        list(self.source.read())

    def read(self) -> dict[str, tuple[float, float | None]]:
        self.source.poll()
        (item,) = self.source.read()
        table, batch = item
        assert table == "host"
        return {
            row["resource"]: (row["used"], row["limit"])
            for row in batch.to_pylist()
            if row["netns"] == self.namespace.inode
        }


def socket_states(namespace: Namespace) -> Counter[str]:
    lines = namespace.run("ss", "-tanH").stdout.splitlines()
    return Counter(line.split()[0] for line in lines)


def test_listen_queue_connections_and_ephemeral_ports(network: Network) -> None:
    namespace = network.namespace("queue")
    reader = Reader(namespace)
    with contextlib.ExitStack() as stack, namespace.entered():
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 8080), backlog=50))
        ipv6 = stack.enter_context(socket.create_server(("::1", 8081), family=socket.AF_INET6, backlog=20))
        for address, count in ((listener.getsockname(), 30), (ipv6.getsockname(), 7)):
            for _ in range(count):
                stack.enter_context(socket.create_connection(address[:2]))
        # An independent reader of the same sockets.
        everyone = {"ESTAB": 74, "LISTEN": 2}
        wait_until(lambda: socket_states(namespace) == everyone, "every handshake has ended")
        found = reader.read()
        low, high = map(int, namespace.run("sysctl", "-n", "net.ipv4.ip_local_port_range").stdout.split())
        available = high - low + 1
        assert found["listen_queue:127.0.0.1:8080"] == (30, 50)
        assert found["listen_queue:[::1]:8081"] == (7, 20)
        assert found["ephemeral_ports"] == (30, available)
        assert found["ephemeral_ports:127.0.0.1->127.0.0.1:8080"] == (30, available)
        assert found["ephemeral_ports:::1->[::1]:8081"] == (7, available)
        assert found["sockets:established"][0] == 2 * 37
        assert found["sockets:listen"][0] == 2
        assert found["tcp_active_opens"][0] == found["tcp_passive_opens"][0] == 37
        assert socket_states(namespace) == everyone
        accepted, _ = listener.accept()
        stack.enter_context(accepted)
        assert reader.read()["listen_queue:127.0.0.1:8080"] == (29, 50)


def queued(namespace: Namespace, port: int) -> int:
    """How many connections wait to be accepted."""
    return int(namespace.run("ss", "-tlnH", f"sport = :{port}").stdout.split()[1])


def test_listen_overflows_are_the_kernels_own(network: Network) -> None:
    namespace = network.namespace("overflow")
    reader = Reader(namespace)
    with contextlib.ExitStack() as stack, namespace.entered():
        stack.enter_context(socket.create_server(("127.0.0.1", 8080), backlog=2))
        for _ in range(10):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", 8080))
        wait_until(lambda: queued(namespace, 8080) == 3, "the queue is full")
        found = reader.read()
        counters = dict(
            line.split()[:2] for line in namespace.run("nstat", "-asz").stdout.splitlines() if line.startswith("Tcp")
        )
        assert found["listen_queue:127.0.0.1:8080"] == (3, 2)  # the kernel lets in one more than its limit
        assert found["tcp_listen_overflows"][0] > 0
        # SYNs are sent again while we look: what we saw is at most what is there now.
        assert found["tcp_listen_overflows"][0] <= int(counters["TcpExtListenOverflows"])
        assert found["sockets:syn_sent"][0] > 0


def test_timeouts_and_retransmits_are_the_kernels_own(link: Link) -> None:
    client, server = link.first.namespace, link.second.namespace
    server.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    server.run("nft", "add rule inet t c tcp dport 7000 drop")
    reader = Reader(client)
    names = {
        "tcp_active_opens": "TcpActiveOpens",
        "tcp_segments_sent": "TcpOutSegs",
        "tcp_retransmitted_segments": "TcpRetransSegs",
        "tcp_timeouts": "TcpExtTCPTimeouts",
        "tcp_syn_retransmits": "TcpExtTCPSynRetrans",
    }

    def kernel() -> dict[str, int]:
        lines = (line.split() for line in client.run("nstat", "-asz").stdout.splitlines())
        found = {words[0]: int(words[1]) for words in lines if words[0].startswith("Tcp")}
        return {name: found[counter] for name, counter in names.items()}

    with client.entered(), socket.socket() as unheard:
        unheard.setblocking(False)
        unheard.connect_ex((link.second.ipv4, 7000))
        wait_until(lambda: kernel()["tcp_retransmitted_segments"] > 0, "the SYN was sent again")
        # A new namespace began with zero. The next SYN goes only after some time, but this may take longer.
        seen = dict.fromkeys(names, 0.0)
        for _ in range(5):
            counted = kernel()
            found = reader.read()
            seen = {name: value + found[name][0] for name, value in seen.items()}
            if kernel() == counted:
                break
    assert seen == counted
    assert counted["tcp_retransmitted_segments"] == counted["tcp_timeouts"] == counted["tcp_syn_retransmits"]


def test_link_bytes_and_packets_are_exact(link: Link) -> None:
    sender, receiver = link.first, link.second
    for end in (sender, receiver):
        # Nothing but the known datagrams may cross: no neighbour discovery.
        end.namespace.run("sysctl", "-wq", f"net.ipv6.conf.{end.device}.disable_ipv6=1")
    mac = json.loads(receiver.namespace.run("ip", "-j", "link", "show", receiver.device).stdout)[0]["address"]
    sender.namespace.run(
        "ip", "neighbor", "replace", receiver.ipv4, "lladdr", mac, "dev", sender.device, "nud", "permanent"
    )
    time.sleep(0.2)
    with receiver.namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((receiver.ipv4, 9000))
        with sender.namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
            increases = Increases()
            assert not [gauge for gauge in links(increases, 0.0) if gauge.resource.startswith("link:")]
            increases.next()
            for _ in range(100):
                source.sendto(bytes(1000), (receiver.ipv4, 9000))
            found = {gauge.resource: gauge for gauge in links(increases, 2.0)}
    sent = found[f"link:{sender.device}:tx"]
    assert sent.used == 100 * (1000 + 8 + 20 + 14) / 2.0
    assert sent.limit == 10_000 * 1e6 / 8  # what a veth pair says of itself
    assert found[f"link_packets:{sender.device}:tx"].used == 50
    assert found[f"link:{sender.device}:rx"].used == 0
    assert found["link:lo:rx"].limit is None


def test_udp_receive_buffer_errors_are_exact(network: Network) -> None:
    namespace = network.namespace("udp")
    reader = Reader(namespace)
    with (
        namespace.entered(),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sink.bind(("127.0.0.1", 9000))
        sink.setblocking(False)
        for _ in range(500):
            source.sendto(bytes(500), ("127.0.0.1", 9000))
        source.sendto(b"x", ("127.0.0.1", 9001))
        received = 0

        def all_accounted_for() -> bool:
            nonlocal received
            with contextlib.suppress(BlockingIOError):
                while sink.recv(1000):
                    received += 1
            lines = namespace.run("nstat", "-asz", "UdpRcvbufErrors").stdout.split()
            return received + int(lines[lines.index("UdpRcvbufErrors") + 1]) == 500

        wait_until(all_accounted_for, "every datagram is received or dropped")
        found = reader.read()
        assert received > 0
        assert found["udp_receive_buffer_errors"][0] == 500 - received
        assert found["udp_no_port"][0] == 1
        assert found["sockets:udp"][0] == 2


def test_conntrack_entries(network: Network) -> None:
    namespace = network.namespace("conntrack")
    namespace.run("nft", "add table inet t; add chain inet t c { type filter hook output priority 0; }")
    namespace.run("nft", "add rule inet t c ct state new counter")
    reader = Reader(namespace)
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
        for port in range(9000, 9020):
            source.sendto(b"x", ("127.0.0.1", port))
    used, limit = reader.read()["conntrack"]
    assert used == 20
    assert limit == int(Path("/proc/sys/net/netfilter/nf_conntrack_max").read_text())


def test_all_namespaces_and_back_home(network: Network) -> None:
    first, second = network.namespace("one"), network.namespace("two")
    home = Path("/proc/thread-self/ns/net").stat().st_ino
    assert {home, first.inode, second.inode} <= chosen(("all",)).keys()
    source = find("host").create(
        CaptureContext("observer", "capture", {"host_netns": ("all",), "host_interval": 0.001})
    )
    source.start()
    ((_, batch),) = source.read()
    assert {None, home, first.inode, second.inode} <= set(batch.column("netns").to_pylist())
    assert Path("/proc/thread-self/ns/net").stat().st_ino == home


def test_a_namespace_that_goes_away_and_one_that_never_was(network: Network, tmp_path: Path) -> None:
    kept = network.namespace("kept")
    gone = f"{kept.name}-gone"
    subprocess.run(["ip", "netns", "add", gone], check=True)
    try:
        settings = {"host_netns": (kept.name, gone), "host_interval": 0.001}
        source = find("host").create(CaptureContext("observer", "capture", settings))
        source.start()
        ((_, batch),) = source.read()
        assert len(set(batch.column("netns").to_pylist())) == 3
    finally:
        subprocess.run(["ip", "netns", "delete", gone], check=True)
    source.poll()
    ((_, batch),) = source.read()
    assert set(batch.column("netns").to_pylist()) == {None, kept.inode}
    readiness = find("host").can_run({"host_netns": ("no-such-namespace",)})
    assert not readiness.ready and "no-such-namespace" in readiness.reason and readiness.fix
    with pytest.raises(CannotRecordError, match="no-such-namespace"):
        find("host").create(CaptureContext("o", "c", {"host_netns": ("no-such-namespace",)})).start()


def test_recorded_into_a_trace(network: Network, tmp_path: Path) -> None:
    namespace = network.namespace("record")
    trace = tmp_path / "trace"
    command = [sys.executable, "-m", "netrec", "record", "--source", "host", "--host-interval", "1s"]
    command += ["--host-netns", namespace.name, "-o", str(trace), "--json"]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    recorder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert recorder.stdout is not None
        while json.loads(recorder.stdout.readline())["elapsed"] < 2.1:
            continue
        recorder.send_signal(signal.SIGINT)
        recorder.communicate(timeout=60)
    finally:
        for process in (busy, recorder):
            process.kill()
            process.wait()
    assert recorder.returncode == 0
    table = pyarrow.dataset.dataset(sorted(map(str, (trace / "host").rglob("*.parquet")))).to_table()
    rows = table.to_pylist()
    # At the start, after 1 s, after 2 s; later ones where the machine stood still, but never sooner.
    times = sorted({row["time"] for row in rows})
    seconds = {(time - times[0]) // timedelta(seconds=1) for time in times[:-1]}  # the last one is of the end
    assert len(seconds) == len(times) - 1 >= 1
    assert {row["resource"] for row in rows} >= {
        "cpu",
        "link:lo:rx",
        "tcp_memory",
        "file_descriptors",
        "sockets:listen",
    }
    memory = [row for row in rows if row["resource"] == "tcp_memory"]
    assert all(row["netns"] is None and 0 <= row["used"] < row["limit"] for row in memory)
    cpu = [row for row in rows if row["resource"] == "cpu"]
    # The kernel counts in ticks, and what a hypervisor steals it tells in lumps.
    assert all(0 < row["used"] <= row["limit"] * 1.5 and row["limit"] == os.cpu_count() for row in cpu)
