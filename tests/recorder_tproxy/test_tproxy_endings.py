"""The relay between real sockets on loopback: every ending, in both directions."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from recorder.sources.tproxy.dial import RawSocket
from recorder.sources.tproxy.relay import _unsent
from tests.support.namespaces import wait_until
from tests.support.relay import Proxied, echo, only, read_all, reset


def test_a_half_close_passes_and_the_other_half_lives_on(proxied: Callable[..., Proxied]) -> None:
    def serve(connection: socket.socket) -> None:
        got = read_all(connection)  # until the client's FIN
        time.sleep(0.05)
        connection.sendall(hashlib.sha256(got).digest())
        connection.close()

    proxy = proxied(serve)
    data = random.Random(1).randbytes(3_000_000)
    with proxy.dial() as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == hashlib.sha256(data).digest()
    row = only(proxy.rows(1))
    assert (row["client_bytes"], row["server_bytes"], row["closed_by"]) == (len(data), 32, "client")


def test_a_half_close_before_the_server_is_there(proxied: Callable[..., Proxied]) -> None:
    proxy = proxied(lambda connection: connection.sendall(b"x" + read_all(connection)) or connection.close())
    with proxy.dial() as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"x"


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_passes_as_a_reset(proxied: Callable[..., Proxied], who: str) -> None:
    seen: list[BaseException | bytes] = []
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"hello" + connection.recv(100))
        if who == "server":
            connection.recv(100)
            reset(connection)
            return
        try:
            seen.append(connection.recv(100))
        except OSError as problem:
            seen.append(problem)
        done.set()

    proxy = proxied(serve)
    client = proxy.dial()
    client.sendall(b" there")
    assert client.recv(100) == b"hello there"
    if who == "server":
        client.sendall(b"now")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        client.close()
    else:
        reset(client)
        assert done.wait(10)
        assert isinstance(seen[0], ConnectionResetError)
    row = only(proxy.rows(1))
    assert (row["tcp_close"], row["closed_by"]) == ("rst_received", who)


def test_what_was_sent_before_a_reset_arrives(proxied: Callable[..., Proxied]) -> None:
    size = 3_000_000

    def serve(connection: socket.socket) -> None:
        connection.sendall(bytes(size))
        wait_until(lambda: not _unsent(connection), "the proxy has acknowledged all")  # type: ignore[arg-type]
        reset(connection)

    proxy = proxied(serve)
    with proxy.dial() as client:
        client.sendall(b"x")
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(20_000):
                got += len(part)
                time.sleep(0.001)
    row = only(proxy.rows(1))
    assert row["server_bytes"] == size
    assert got == size


def test_a_refused_server_is_a_row_and_a_reset(proxied: Callable[..., Proxied]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    proxy = proxied(echo, server=address)
    # The reset may come as early as the dial.
    with pytest.raises((ConnectionResetError, BrokenPipeError)), proxy.dial() as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        if not client.recv(1):
            raise AssertionError("a FIN is not a reset")
    row = only(proxy.rows(1))
    assert (row["tcp_close"], row["server_bytes"], row["connect_latency_us"]) == ("connect_failed", 0, None)


def test_a_server_that_resets_at_once_was_there(proxied: Callable[..., Proxied]) -> None:
    """Connected and reset in one event: that is not a connect that failed."""
    done = threading.Event()
    proxy = proxied(lambda connection: (reset(connection), done.set()))
    dial = proxy.relay.options.connect

    def late(*given: Any) -> RawSocket:
        made = dial(*given)
        assert done.wait(10)
        return made

    proxy.relay.options = replace(proxy.relay.options, connect=late)
    with pytest.raises((ConnectionResetError, BrokenPipeError)), proxy.dial() as client:
        client.sendall(b"x")
        client.recv(1) or client.sendall(b"y")
    row = only(proxy.rows(1))
    assert (row["tcp_close"], row["closed_by"]) == ("rst_received", "server")
    assert row["connect_latency_us"] >= 0
