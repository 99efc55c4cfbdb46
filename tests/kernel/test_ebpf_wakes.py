"""What fills in the kernel wakes the recorder before it is full, and nothing else does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recorder.waiting import Waiter
from tests.support import traffic
from tests.support.ebpf import Recording
from tests.support.namespaces import Network

pytestmark = pytest.mark.kernel


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    waiter = Waiter()
    yield waiter
    waiter.close()


def waited(waiter: Waiter, seconds: float) -> float:
    begun = time.monotonic()
    waiter.wait(seconds)
    return time.monotonic() - begun


def connections(count: int) -> None:
    with traffic.Server("127.0.0.1") as service:
        traffic.exchange("127.0.0.1", service.port, [(16, 16)] * count)


def datagrams(count: int) -> None:
    """To so many peers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for port in range(20_000, 20_000 + count):
            sender.sendto(b"payload", ("127.0.0.1", port))


def questions(count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for _ in range(count):
            client.sendto(bytes(100), ("127.0.0.2", 53))


FILLED: dict[str, tuple[dict[str, Any], Callable[[int], None], int, int]] = {
    # A quarter of the ring is 1,489 records; two a connection.
    "the ring of flows": ({"ring_size": 1 << 20}, connections, 20, 800),
    "the table of datagrams": ({"protocols": ("udp",), "max_flows": 800}, datagrams, 80, 450),
    # A quarter of the ring is 128 KB, a packet takes about 300 bytes.
    "the packets of DNS clients": ({"dns": True}, questions, 80, 900),
}


@pytest.mark.parametrize("what", FILLED)
def test_what_fills_wakes_whoever_waits(network: Network, waiter: Waiter, what: str) -> None:
    settings, load, few, many = FILLED[what]
    space = network.namespace()
    with Recording(**settings) as recording, space.entered():
        waiter.watch(recording.source.wakes())
        load(few)
        assert any(waited(waiter, 1.0) > 0.9 for _ in range(10))  # more than once: the host has traffic of its own
        load(many)
        assert waited(waiter, 60.0) < 30
    assert recording.health.events_lost == 0


def test_a_table_of_datagrams_that_fills_is_emptied_in_time(network: Network, waiter: Waiter) -> None:
    """Six times as many flows as there is room for, and nobody looks but when woken."""
    space = network.namespace()
    with Recording(protocols=("udp",), max_flows=800) as recording, space.entered():
        waiter.watch(recording.source.wakes())
        for first in range(20_000, 24_800, 100):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for port in range(first, first + 100):
                    sender.sendto(b"payload", ("127.0.0.1", port))
            if waited(waiter, 0.01) < 0.009:
                recording.source.poll()
    assert recording.health.events_lost == 0
    assert len({row["server_port"] for row in recording.of(space.inode)}) == 4800
