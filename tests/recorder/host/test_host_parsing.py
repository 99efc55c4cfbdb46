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


def test_softnet_of_all_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    increases = Increases()
    lines = ["00000a00 00000001 00000002 00000000\n00000b00 00000010 00000000 00000000\n"]
    monkeypatch.setattr(counters, "text", lambda path: lines[-1] if path == "/proc/net/softnet_stat" else "")
    assert counters.softnet(increases) == []
    increases.next()
    lines.append("00000aff 00000004 00000002 00000000\n00000bff 00000020 00000100 00000000\n")
    assert counters.softnet(increases) == [
        Gauge("softnet_drops", 3 + 16, None, "packet"),
        Gauge("softnet_squeezes", 256, None, "event"),
    ]


def test_busy_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    increases = Increases()
    lines = ["cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 100 0 0 500 0 0 10 0 0 0\ncpu1 100 0 0 500 0 0 10 5 0 0\nctxt 7\n"]
    monkeypatch.setattr(counters, "text", lambda path: lines[-1])
    monkeypatch.setattr(counters.os, "sysconf", lambda name: 100)
    assert counters.cpu(increases, 0.0) == []
    increases.next()
    # In two seconds: the first worked for 1 s, 0.5 s of it in softirq; the second was stolen for 1 s, idle for 1 s.
    lines.append("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 150 0 0 600 0 0 60 0 0 0\ncpu1 100 0 0 600 0 0 10 105 0 0\nctxt 9\n")
    assert counters.cpu(increases, 2.0) == [
        Gauge("cpu", 1.0, 2, "cpu"),
        Gauge("cpu_softirq", 0.25, 2, "cpu"),
        Gauge("cpu_steal", 0.5, 2, "cpu"),
        Gauge("cpu_softirq_busiest", 0.25, 1, "cpu"),
    ]


def test_memory_and_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/thread-self/net/sockstat": "TCP: inuse 4 orphan 0 tw 0 alloc 5 mem 3\nUDP: inuse 2 mem 1\n",
        "/proc/sys/net/ipv4/tcp_mem": "10\t20\t30\n",
        "/proc/sys/net/ipv4/udp_mem": "1\t2\t4\n",
        "/proc/sys/fs/file-nr": "1024\t0\t9223372036854775807\n",
    }
    monkeypatch.setattr(counters, "text", lambda path: files.get(path, ""))
    monkeypatch.setattr(counters.resource, "getpagesize", lambda: 4096)
    assert counters.protocol_memory() == [
        Gauge("tcp_memory", 3 * 4096, 30 * 4096, "byte"),
        Gauge("udp_memory", 4096, 4 * 4096, "byte"),
    ]
    assert counters.descriptors() == [Gauge("file_descriptors", 1024, None, "descriptor")]
    files["/proc/sys/fs/file-nr"] = "1024\t0\t5000\n"
    assert counters.descriptors() == [Gauge("file_descriptors", 1024, 5000, "descriptor")]
