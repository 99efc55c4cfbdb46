"""A sample of flows is chosen in the kernel: whole flows, both ends alike, and what is left out leaves no trace."""

from __future__ import annotations

import os
import socket
from typing import Any

import numpy as np
import pytest

from recorder.source import Effort
from recorder.sources.ebpf.sampling import in_sample
from tests.support import traffic
from tests.support.datagrams import Echo
from tests.support.ebpf import Recording
from tests.support.namespaces import Network

pytestmark = pytest.mark.kernel
FLOWS = 400
FEW = 1 << 30  # so few that none of some dozens is chosen
_RECORD = np.dtype([("local", "V16"), ("remote", "V16"), ("local_port", "u2"), ("remote_port", "u2")])


def chosen(ends: list[tuple[str, int, str, int]], interval: int) -> list[bool]:
    """What the sample should hold, from the same hash on this side."""

    def packed(address: str) -> bytes:
        if ":" in address:
            return socket.inet_pton(socket.AF_INET6, address)
        return bytes(10) + b"\xff\xff" + socket.inet_pton(socket.AF_INET, address)

    rows = [(packed(one), packed(other), port, other_port) for one, port, other, other_port in ends]
    return in_sample(np.array(rows, _RECORD), interval).tolist()


def sampled(recording: Recording, interval: int) -> Recording:
    recording.source.adjust(Effort(sampling=interval, active_timeout=3600.0))  # type: ignore[attr-defined]
    return recording


def ports(rows: list[dict[str, Any]]) -> set[int]:
    return {row["client_port"] for row in rows}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_tcp(network: Network, address: str) -> None:
    space = network.namespace()
    with sampled(Recording(), 4) as recording, space.entered(), traffic.Server(address) as server:
        done = traffic.exchange(address, server.port, sizes=[(100, 1000)] * FLOWS)
    client, server_rows = (recording.of(space.inode, role=role) for role in ("client", "server"))
    expected = chosen([(address, one.client_port, address, server.port) for one in done], 4)
    assert ports(client) == {one.client_port for one, yes in zip(done, expected, strict=True) if yes}
    assert ports(client) == ports(server_rows)
    assert FLOWS / 4 * 0.4 < len(client) < FLOWS / 4 * 1.6
    for row in client + server_rows:
        assert (row["client_bytes"], row["server_bytes"], row["sampling_interval"]) == (100, 1000, 4)
        assert row["duplicate"] is (row["role"] == "server")
        assert row["process_pid"] == os.getpid()
    assert recording.health.map_used is not None and recording.health.map_used < FLOWS // 4
    assert recording.health.events_lost == 0


def test_a_flow_keeps_the_weight_that_it_was_chosen_with(network: Network) -> None:
    space = network.namespace()
    sizes = [(100, 10)] * 20
    with (
        Recording() as recording,
        space.entered(),
        traffic.Server("127.0.0.1") as server,
        traffic.held("127.0.0.1", server.port, sizes),
    ):
        sampled(recording, FEW)
        traffic.exchange("127.0.0.1", server.port, sizes)
    rows = recording.of(space.inode)
    assert len({row["flow_id"] for row in rows}) == 40  # both ends of those that were open before
    assert {row["sampling_interval"] for row in rows} == {None}


def test_udp_is_whole_before_and_a_sample_after(network: Network) -> None:
    """The rows until the change stand for themselves, those after it for what is left out: sums stay right."""
    space = network.namespace()
    with Recording(protocols=("udp",)) as recording, space.entered(), Echo("127.0.0.1", factor=1) as echo:
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
        try:
            for turn in (1, 2):
                for number, one in enumerate(sockets):
                    one.sendto(bytes(100), ("127.0.0.1", echo.port))
                    if number % 50 == 49:
                        recording.run(0.05)
                recording.until(lambda turn=turn: echo.received_packets == turn * FLOWS)
                if turn == 1:
                    sampled(recording, 4)
            used = [one.getsockname()[1] for one in sockets]
        finally:
            for one in sockets:
                one.close()
    rows = recording.of(space.inode, role="client")
    before, after = ([row for row in rows if row["sampling_interval"] == weight] for weight in (None, 4))
    assert (len(before), sum(row["client_bytes"] for row in before)) == (FLOWS, 100 * FLOWS)
    assert {row["flow_end_reason"] for row in before} == {"active"}
    expected = chosen([("127.0.0.1", port, "127.0.0.1", echo.port) for port in used], 4)
    assert ports(after) == {port for port, yes in zip(used, expected, strict=True) if yes}
    assert {row["client_bytes"] for row in after} == {100}
    assert {row["flow_end_reason"] for row in after} == {"forced"}
    assert {row["flow_id"] for row in after} <= {row["flow_id"] for row in before}


def test_a_failed_connect_is_sampled_too(network: Network) -> None:
    space = network.namespace()
    with sampled(Recording(), 4) as recording, space.entered():
        tried = [one.client_port for one in traffic.refused("127.0.0.1", 1, count=100)]
    rows = recording.of(space.inode)
    expected = chosen([("127.0.0.1", port, "127.0.0.1", 1) for port in tried], 4)
    assert sorted(row["client_port"] for row in rows) == sorted(
        port for port, yes in zip(tried, expected, strict=True) if yes
    )
    assert len(rows) < len(tried) == 100
    assert {(row["tcp_close"], row["sampling_interval"]) for row in rows} == {("connect_failed", 4)}
