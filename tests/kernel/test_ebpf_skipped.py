"""What the kernel skips the program of TCP's changes of state for is made good.

It skips a program that it interrupts: that cannot be brought about at will. Taking the program off its tracepoint for
the moment in question comes to the same.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from netrec.filter import Filter
from recorder.bpf import syscalls
from recorder.source import Effort
from tests.support import traffic
from tests.support.ebpf import Recording
from tests.support.namespaces import Namespace, Network

pytestmark = pytest.mark.kernel
HANDSHAKE = "tcp flags & (syn | ack) == syn | ack drop"


@contextlib.contextmanager
def skipped(recording: Recording) -> Iterator[None]:
    """Nobody sees what becomes of a socket while the block runs."""
    source: Any = recording.source
    place = list(source._tracepoints).index("tcp_state")
    os.close(source._links[place])
    try:
        yield
    finally:
        source._links[place] = syscalls.attach_raw_tracepoint(
            source._loaded.functions["tcp_state"], "inet_sock_set_state", typed=True
        )


@contextlib.contextmanager
def unseen_connection(recording: Recording, space: Namespace, port: int) -> Iterator[socket.socket]:
    """A connection that is seen to begin, by its process, but not to be established, by packets."""
    space.run("nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }")
    space.run("nft", f"add rule inet t c {HANDSHAKE}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", port))
        with skipped(recording):
            space.run("nft", "delete table inet t")
            client.settimeout(20)
            while client.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 1) != b"\x01":  # ESTABLISHED, after the second SYN
                time.sleep(0.01)
            time.sleep(0.1)  # the last packet of the handshake comes to the server
        yield client


def sums(rows: list[dict[str, Any]]) -> tuple[int, int]:
    return sum(row["client_bytes"] for row in rows), sum(row["server_bytes"] for row in rows)


def test_an_establishment_that_was_missed(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording, space.entered(), traffic.Server("127.0.0.1") as server:
        with unseen_connection(recording, space, server.port) as client:
            traffic.talk(client, 1234, 4321)
        recording.until(lambda: len(recording.of(space.inode)) == 2)
    (one,), (other,) = (recording.of(space.inode, role=role) for role in ("client", "server"))
    for row in (one, other):
        assert (row["client_bytes"], row["server_bytes"], row["tcp_close"]) == (1234, 4321, "fin")
        assert row["process_pid"] == os.getpid() and not row["role_inferred"]
    assert (one["duplicate"], other["duplicate"]) == (False, True)
    assert one["flow_start_time"] is not None and one["connect_latency_us"] is None
    assert other["flow_start_time"] is None
    assert recording.health.events_lost == 0


def test_with_a_filter_such_are_looked_for_once_the_kernel_skips(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each that closes is judged by the filter from then on; the first skip may have hidden a connection: counted."""
    space = network.namespace()
    with (
        space.entered(),
        traffic.Server("127.0.0.1") as server,
        traffic.Server("127.0.0.1") as other,
        Recording(filter=Filter.read(f"port {server.port}")) as recording,
    ):
        skips: Any = recording.source._skips  # type: ignore[attr-defined]
        monkeypatch.setattr(skips, "_skipped", lambda: 1)
        recording.run(0.2)
        with unseen_connection(recording, space, server.port) as client:
            traffic.talk(client, 1234, 4321)
        with unseen_connection(recording, space, other.port) as client:
            traffic.talk(client, 16, 10)
        traffic.exchange("127.0.0.1", server.port, [(16, 10)])
        recording.until(lambda: len(recording.of(space.inode)) == 4)
    assert {row["server_port"] for row in recording.of(space.inode)} == {server.port}
    for role in ("client", "server"):
        assert sums(recording.of(space.inode, role=role)) == (1250, 4331)
    assert recording.health.lost_in_kernel == 1


def test_a_reset_after_an_establishment_that_was_missed(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording, space.entered(), traffic.Server("127.0.0.1") as server:
        with unseen_connection(recording, space, server.port) as client:
            traffic.talk(client, 100, 200)
            traffic.close_with_reset(client)
        recording.until(lambda: len(recording.of(space.inode)) == 2)
    rows = recording.of(space.inode)
    assert {(row["role"], row["client_bytes"], row["server_bytes"], row["tcp_close"]) for row in rows} == {
        ("client", 100, 200, "rst_sent"),
        ("server", 100, 200, "rst_received"),
    }


def test_a_connection_that_stays_open_is_found(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    space, misses = network.namespace(), [0]
    monkeypatch.setattr(syscalls, "recursion_misses", lambda program: misses[0])
    with (
        Recording(active_timeout=1.0) as recording,
        space.entered(),
        traffic.Server("127.0.0.1") as server,
        unseen_connection(recording, space, server.port) as client,
    ):
        traffic.talk(client, 1000, 2000)
        recording.run(1.5)
        assert not recording.of(space.inode, role="server")
        misses[0] = 1
        recording.until(lambda: recording.of(space.inode, role="server"))
    for role in ("client", "server"):
        rows = recording.of(space.inode, role=role)
        assert sums(rows) == (1000, 2000) and len({row["flow_id"] for row in rows}) == 1
    assert {row["duplicate"] for row in recording.of(space.inode, role="server")} == {True}


def test_an_end_that_was_missed(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording, space.entered(), traffic.Server("127.0.0.1") as server:
        client = traffic.connect("127.0.0.1", server.port)
        traffic.talk(client, 1234, 4321)
        with skipped(recording):
            client.close()
            recording.until(lambda: len(recording.of(space.inode)) == 2)
    rows = recording.of(space.inode)
    assert {(row["role"], row["duplicate"]) for row in rows} == {("client", False), ("server", True)}
    for row in rows:
        assert (row["client_bytes"], row["server_bytes"], row["tcp_close"]) == (1234, 4321, "fin")
        assert row["flow_start_time"] == row["start_time"] <= row["end_time"]


def test_what_a_sample_left_out_is_not_taken_for_missed(network: Network) -> None:
    space = network.namespace()
    with Recording() as recording, space.entered(), traffic.Server("127.0.0.1") as server:
        recording.source.adjust(Effort(sampling=1 << 30))  # type: ignore[attr-defined]
        with traffic.held("127.0.0.1", server.port, [(16, 10)] * 20):
            recording.source.adjust(Effort())  # type: ignore[attr-defined]
        traffic.exchange("127.0.0.1", server.port, [(16, 10)] * 5)
        recording.until(lambda: len(recording.of(space.inode)) >= 10)
    assert len(recording.of(space.inode)) == 10
