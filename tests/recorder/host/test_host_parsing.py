"""What the host source reads out of /proc's texts and the kernel's messages, on known input."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from recorder.sources.host import counters, tcp
from recorder.sources.host.gauge import Gauge, Increases
from recorder.sources.host.links import devices
from recorder.sources.host.socket_diagnostics import SOCKETS, _messages


def test_increases() -> None:
    increases = Increases()
    assert increases.of("a", 5) is None
    increases.next()
    assert increases.of("a", 7) == 2
    assert increases.of("b", 7) is None
    increases.next()
    assert increases.of("a", 3) == 3  # made anew
    increases.next()
    increases.next()  # a reading without it
    assert increases.of("a", 9) is None


def test_devices_with_odd_names() -> None:
    content = "h1\nh2\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\nveth:1:10 2 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n"
    found = devices(content)
    assert found["eth0"] == list(range(1, 17))
    assert found["veth:1"][0] == 10


def test_two_line_sections() -> None:
    content = "Tcp: A B\nTcp: 1 -1\nTcpExt: C\nTcpExt: 7\n"
    assert counters.two_line_sections(content) == {"Tcp": {"A": 1, "B": -1}, "TcpExt": {"C": 7}}


def record(state: int, **values: object) -> np.ndarray:
    row = np.zeros(1, SOCKETS)
    row["length"], row["type"], row["family"], row["state"] = 88, 18, socket.AF_INET, state
    for name, value in values.items():
        row[name] = value
    return row


def test_the_fullest_of_several_queues_of_one_port() -> None:
    rows = [
        record(10, local_port=443, receive_queue=used, send_queue=limit)
        for used, limit in ((5, 100), (9, 10), (50, 1000))
    ]
    assert tcp.listen_queues(np.concatenate(rows)) == [Gauge("listen_queue:*:443", 9, 10, "connection")]


def test_places() -> None:
    words = np.frombuffer(socket.inet_pton(socket.AF_INET6, "fd00::1"), "u4")
    assert tcp.place(socket.AF_INET6, words, 443) == "[fd00::1]:443"
    assert tcp.place(socket.AF_INET6, words * 0, 443) == "*:443"
    loopback = np.frombuffer(socket.inet_aton("127.0.0.1") + bytes(12), "u4")
    assert tcp.place(socket.AF_INET, loopback, 443) == "127.0.0.1:443"


@pytest.mark.parametrize("lengths", [[88, 88, 88], [88, 124, 96, 88], [124], [96, 20], [88, 88, 20]])
def test_messages_of_one_and_of_several_lengths(lengths: list[int]) -> None:
    content = b""
    for index, length in enumerate(lengths):
        row = record(1, length=length, inode=index, type=18 if length > 20 else 3).tobytes()
        content += (row + bytes(64))[:length]
    size = len(content)
    rows = _messages(np.frombuffer(content + bytes(88), np.uint8).copy(), size)
    assert rows["length"].tolist() == lengths
    whole = rows[rows["type"] == 18]
    assert whole["inode"].tolist() == list(range(len(whole)))


def test_reserved_ports_are_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/sys/net/ipv4/ip_local_port_range": "1000\t1999\n",
        "/proc/sys/net/ipv4/ip_local_reserved_ports": "80,1000-1009,1500,1990-3000\n",
    }
    monkeypatch.setattr(tcp, "text", files.__getitem__)
    assert tcp.port_range() == (1000, 1999, 1000 - 10 - 1 - 10)
