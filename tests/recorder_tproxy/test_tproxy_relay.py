"""The relay between real sockets on loopback: every byte, in both directions."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import ssl
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from recorder.sources.tproxy import wire
from recorder.sources.tproxy.session import End, Session
from tests.support.namespaces import wait_until
from tests.support.relay import Proxied, echo, only, read_all


def test_a_request_and_its_answer(proxied: Callable[..., Proxied]) -> None:
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def serve(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer)
        connection.close()

    proxy = proxied(serve)
    request = b"GET /a?b=c HTTP/1.1\r\nHost: Example.org:80\r\n\r\n"
    with proxy.dial() as client:
        client.sendall(request)
        assert read_all(client) == answer
        port = client.getsockname()[1]
    row = only(proxy.rows(1))
    assert (row["client_bytes"], row["server_bytes"]) == (len(request), len(answer))
    assert (row["http_method"], row["http_host"], row["http_path"]) == ("GET", "Example.org:80", "/a")
    assert (row["http_status"], row["server_name"], row["server_name_source"]) == (404, "example.org", "http")
    assert (row["tcp_close"], row["closed_by"], row["flow_end_reason"]) == ("fin", "server", "end")
    assert (row["client_port"], row["server_address"]) == (port, "127.0.0.9")
    assert 0 <= row["connect_latency_us"] <= row["time_to_first_byte_us"] < 20_000_000
    assert row["start_time"] == row["flow_start_time"] <= row["end_time"]


def test_a_server_that_speaks_first_is_not_kept_waiting(proxied: Callable[..., Proxied]) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"220 mail.example ESMTP\r\n")
        echo(connection)

    proxy = proxied(serve)
    with proxy.dial() as client:
        assert client.recv(100) == b"220 mail.example ESMTP\r\n"
        client.sendall(b"EHLO x\r\n")
        assert client.recv(100) == b"EHLO x\r\n"
    row = only(proxy.rows(1))
    assert row["http_method"] is None
    assert row["server_name"] is None
    assert row["http_status"] is None
    assert row["closed_by"] == "client"


def test_what_moves_much_is_spliced_and_arrives(
    proxied: Callable[..., Proxied], monkeypatch: pytest.MonkeyPatch
) -> None:
    really, moved = os.splice, [0]

    def splice(source: int, sink: int, *arguments: Any, **options: Any) -> int:
        size = really(source, sink, *arguments, **options)
        if stat.S_ISFIFO(os.fstat(sink).st_mode):  # into the pipe; what leaves it again is the same
            moved[0] += size
        return size

    monkeypatch.setattr(os, "splice", splice)
    data = random.Random(2).randbytes(8_000_000)
    proxy = proxied(lambda connection: connection.sendall(data) or connection.close())
    with proxy.dial() as client:
        assert hashlib.sha256(read_all(client)).digest() == hashlib.sha256(data).digest()
    assert only(proxy.rows(1))["server_bytes"] == len(data)
    assert moved[0] > 0.9 * len(data)


def tls_server(connection: socket.socket, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    with context.wrap_socket(connection, server_side=True) as secured:
        secured.sendall(secured.recv(100)[::-1])


def test_tls_passes_unopened_its_hello_a_byte_at_a_time(proxied: Callable[..., Proxied], tmp_path: Path) -> None:
    """A real handshake, certificate verified through the proxy; the name is read from a hello in many segments."""
    certificate = tmp_path / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=shop.example", "-addext", "subjectAltName=DNS:shop.example", "-keyout", tmp_path / "key",
         "-out", tmp_path / "certificate"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    certificate.write_bytes((tmp_path / "key").read_bytes() + (tmp_path / "certificate").read_bytes())
    proxy = proxied(lambda connection: tls_server(connection, certificate))
    context = ssl.create_default_context(cafile=str(tmp_path / "certificate"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secured = context.wrap_bio(incoming, outgoing, server_hostname="shop.example")
    with proxy.dial() as client:

        def until(step: Callable[[], Any]) -> Any:
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    for byte in outgoing.read():
                        client.sendall(bytes([byte]))
                    incoming.write(client.recv(1 << 16))
                finally:
                    client.sendall(outgoing.read())

        until(secured.do_handshake)
        assert secured.selected_alpn_protocol() == "http/1.1"
        secured.write(b"secret")
        client.sendall(outgoing.read())
        assert until(lambda: secured.read(100)) == b"terces"
    row = only(proxy.rows(1))
    assert (row["server_name"], row["server_name_source"], row["alpn"]) == ("shop.example", "tls", "h2")
    assert row["tls_version"] == "1.3"


def test_a_slow_reader_holds_the_sender_and_not_the_memory(proxied: Callable[..., Proxied]) -> None:
    total = 64_000_000

    def serve(connection: socket.socket) -> None:
        block = bytes(1 << 20)
        connection.recv(2)
        left = total
        while left:
            left -= connection.send(block[:left])
        connection.close()

    proxy = proxied(serve)
    with proxy.dial() as client:
        client.sendall(b"go")
        time.sleep(0.5)
        (end,) = [end for end in proxy.relay.ends.values() if end.side == wire.SERVER]
        stuck_at = end.received
        assert len(end.held) + end.piped <= 1 << 20
        time.sleep(0.2)
        assert end.received == stuck_at < total  # the sender waits
        assert len(read_all(client)) == total
    assert only(proxy.rows(1))["server_bytes"] == total


def test_an_end_that_can_be_read_and_written_again_at_once_loses_neither(proxied: Callable[..., Proxied]) -> None:
    """One event for both: the client has made room, and has said something."""
    heard: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        def hear() -> None:
            while part := connection.recv(100):
                heard.append(part)

        threading.Thread(target=hear, daemon=True).start()
        for _ in range(5):  # in small pieces and with pauses: no splice
            connection.sendall(bytes(30_000))
            time.sleep(0.005)
        for _ in range(1000):
            connection.sendall(bytes(30_000))
        connection.shutdown(socket.SHUT_WR)

    proxy = proxied(serve)
    with proxy.dial() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 20_000)
        client.sendall(b"\0")  # no TLS, no HTTP: nothing left to learn, in full swing from here on
        wait_until(lambda: heard == [b"\0"], "the server hears")
        (end,) = [end for end in proxy.relay.ends.values() if end.side == wire.CLIENT]
        wait_until(lambda: not end.writable, "the client's side is full")
        time.sleep(0.05)
        proxy.paused.set()
        got = 0
        client.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while got < 30_150_000:  # all that the kernel holds for it
                got += len(client.recv(1 << 16))
        client.sendall(b"2")
        time.sleep(0.1)
        client.settimeout(20)
        proxy.paused.clear()
        got += len(read_all(client))
    assert got == 30_150_000
    assert b"".join(heard) == b"\x002"


def test_urgent_data_stays_in_the_stream(proxied: Callable[..., Proxied]) -> None:
    got: list[bytes] = []
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        got.append(read_all(connection))
        done.set()

    proxy = proxied(serve)
    proxy.listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # as the workers' listeners have it
    with proxy.dial() as client:
        client.sendall(b"abc")
        client.send(b"!", socket.MSG_OOB)
        client.sendall(b"def")
        client.shutdown(socket.SHUT_WR)
        assert done.wait(10)
    assert got == [b"abc!def"]


def test_many_at_once_with_pauses_and_endings_of_every_kind(proxied: Callable[..., Proxied]) -> None:
    """Random sizes, writes and pauses both ways at once: what arrives is what was sent."""

    def serve(connection: socket.socket) -> None:
        seed, size = struct.unpack("!QQ", connection.recv(16, socket.MSG_WAITALL))
        sums: list[bytes] = []
        reader = threading.Thread(target=lambda: sums.append(hashlib.sha256(read_all(connection)).digest()))
        reader.start()
        rng = random.Random(seed)
        data = rng.randbytes(size)
        at = 0
        while at < size:
            step = rng.randrange(1, 200_000)
            connection.sendall(data[at : at + step])
            at += step
            if rng.random() < 0.2:
                time.sleep(rng.random() * 0.01)
        reader.join()
        connection.sendall(sums[0])
        connection.close()

    proxy = proxied(serve)
    problems: list[str] = []

    def one(number: int) -> None:
        rng = random.Random(number)
        mine, theirs = rng.randbytes(rng.randrange(0, 2_000_000)), rng.randrange(0, 2_000_000)
        with proxy.dial() as client:
            client.sendall(struct.pack("!QQ", number, theirs))
            got: list[bytes] = []
            reader = threading.Thread(target=lambda: got.append(read_all(client)))
            reader.start()
            at = 0
            while at < len(mine):
                step = rng.randrange(1, 100_000)
                client.sendall(mine[at : at + step])
                at += step
            client.shutdown(socket.SHUT_WR)
            reader.join()
            if got[0][:-32] != random.Random(number).randbytes(theirs) or got[0][-32:] != hashlib.sha256(mine).digest():
                problems.append(f"session {number}: {len(got[0])} bytes of {theirs + 32}")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    table = proxy.rows(30)
    assert table.num_rows == 30
    assert set(table["tcp_close"].to_pylist()) == {"fin"}


def test_the_proxy_that_is_full_takes_the_next_when_there_is_room(proxied: Callable[..., Proxied]) -> None:
    proxy = proxied(echo, session_limit=2)
    first, second, third = (proxy.dial() for _ in range(3))
    for client in (first, second):
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    wait_until(lambda: proxy.relay.full, "full")
    third.sendall(b"y")
    third.settimeout(0.2)
    with pytest.raises(TimeoutError):
        third.recv(1)
    first.close()
    second.close()
    third.settimeout(10)
    assert third.recv(1) == b"y"
    third.close()


def test_a_dial_to_the_proxy_itself_is_refused(proxied: Callable[..., Proxied]) -> None:
    proxy = proxied(echo)
    own = proxy.relay._listeners
    (descriptor, (listener, ipv6, _)) = next(iter(own.items()))
    own[descriptor] = (listener, ipv6, ("127.0.0.9", proxy.listener.getsockname()[1]))
    with pytest.raises(OSError, match=r"reset|Broken"), proxy.dial() as client:
        client.sendall(b"x")
        client.recv(1) or client.sendall(b"y")
    wait_until(lambda: proxy.relay.refused == 1, "refused")
    assert proxy.relay.options.last_flow_id[0] == 0


def test_nothing_is_left_of_a_session(proxied: Callable[..., Proxied]) -> None:
    import gc

    proxy = proxied(echo)
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            with proxy.dial() as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        proxy.rows(20)
        # Without the cyclic collector: sessions undo their circles of references themselves.
        wait_until(
            lambda: not [one for one in gc.get_objects() if isinstance(one, End | Session)], "no session in memory", 5
        )
    finally:
        gc.enable()


def test_interval_rows_add_up(proxied: Callable[..., Proxied]) -> None:
    proxy = proxied(echo)
    with proxy.dial() as client:
        for _ in range(3):
            client.sendall(b"abc")
            assert client.recv(10) == b"abc"
            for session in proxy.relay.sessions():
                proxy.relay.report(session, time.monotonic_ns())
        client.sendall(b"last")
        client.recv(10)
    table = proxy.rows(4)
    assert table["client_bytes"].to_pylist() == [3, 3, 3, 4]
    assert table["flow_end_reason"].to_pylist() == ["active", "active", "active", "end"]
    assert len(set(table["flow_id"].to_pylist())) == 1
    starts, ends = table["start_time"].to_pylist(), table["end_time"].to_pylist()
    for ended, started in zip(ends[:-1], starts[1:], strict=True):
        assert abs((ended - started).total_seconds()) < 0.001
    assert np.all(np.diff(table["flow_start_time"].cast(pa.int64()).to_numpy()) < 1000)
