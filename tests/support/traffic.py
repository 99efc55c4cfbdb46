"""Traffic of which every byte is known, as functions and as programs of their own.

Functions, to be called in the test process (inside `Namespace.entered()` for another namespace):

    with Server(address) as server:                       # echoes nothing: each connection says what it wants
        connections = exchange(server, sizes=[(100, 2000), (0, 0)])
    refused(address), reset_close(...), upload(...)

Programs, when the owner process matters or the traffic must live in another namespace:

    python -m tests.support.traffic server --address A [--port P]
    python -m tests.support.traffic client --address A --port P --sizes 100:2000,50:0 [--hold] [--reset] [--interval S]
    python -m tests.support.traffic upload --address A --port P --seconds T [--rate BYTES_PER_SECOND]
    python -m tests.support.traffic refused --address A --port P [--count N]

They print one JSON object a line: the server `{"port": ..., "pid": ...}` once it listens, the others one
`Connection` each, and exit 0. `--hold` keeps the connections open until standard input closes.

The wire format: a client's first 16 bytes tell the server, as two unsigned 64-bit integers in network order, how
many payload bytes the client sends in all (these 16 included, OPEN_ENDED: until it shuts down) and how many it wants
back. A client that sends none just connects and closes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType

HEADER = struct.Struct("!QQ")
OPEN_ENDED = 2**64 - 1
BLOCK = bytes(65536)
TIMEOUT = 60.0


@dataclass(frozen=True)
class Connection:
    """What one connection really carried: payload bytes sent by each side; `error` names the errno of a failed one."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int
    client_bytes: int
    server_bytes: int
    error: str = ""

    def print(self) -> None:
        print(json.dumps(asdict(self)), flush=True)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _receive(connection: socket.socket, count: int) -> int:
    """Read until `count` bytes or the end of the stream; returns how many came."""
    received = 0
    while received < count:
        chunk = connection.recv(min(count - received, 1 << 20))
        if not chunk:
            break
        received += len(chunk)
    return received


def _send(connection: socket.socket, count: int) -> None:
    while count:
        count -= connection.send(memoryview(BLOCK)[: min(count, len(BLOCK))])


class Server:
    """Listens at once (port 0: any) and serves every connection in a thread of its own until closed."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, backlog: int = 1024) -> None:
        self.listener = socket.create_server((address, port), family=_family(address), backlog=backlog)
        self.address = address
        self.port: int = self.listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and wait for the connections that are being served."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._acceptor.join(TIMEOUT)
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=_serve, args=(connection,), daemon=True)
            self._threads = [other for other in self._threads if other.is_alive()] + [thread]
            thread.start()


def _serve(connection: socket.socket) -> None:
    # The client may reset the connection: that is part of the plan.
    with connection, contextlib.suppress(ConnectionError):
        header = b""
        while len(header) < HEADER.size:
            chunk = connection.recv(HEADER.size - len(header))
            if not chunk:
                return
            header += chunk
        wanted, answer = HEADER.unpack(header)
        _receive(connection, wanted - HEADER.size)
        _send(connection, answer)
        _receive(connection, OPEN_ENDED)  # the client closes first


def connect(address: str, port: int, source: tuple[str, int] | None = None) -> socket.socket:
    """A connected client socket; `source` binds it first. Raises `OSError` when the connection fails."""
    client = socket.socket(_family(address), socket.SOCK_STREAM)
    try:
        client.settimeout(TIMEOUT)
        if source is not None:
            client.bind(source)
        client.connect((address, port))
    except BaseException:
        client.close()
        raise
    return client


def talk(client: socket.socket, client_bytes: int, server_bytes: int) -> Connection:
    """Exchange exactly so many payload bytes over a connection to a `Server`; leaves it open.

    `client_bytes` is 0 or at least 16 (the header is part of it); without a header the server sends nothing.
    """
    if client_bytes:
        if client_bytes < HEADER.size:
            raise ValueError(f"a client sends 0 or at least {HEADER.size} bytes, not {client_bytes}")
        client.sendall(HEADER.pack(client_bytes, server_bytes))
        _send(client, client_bytes - HEADER.size)
        received = _receive(client, server_bytes)
        if received != server_bytes:
            raise RuntimeError(f"the server sent {received} of {server_bytes} bytes")
    elif server_bytes:
        raise ValueError("a server sends nothing to a client that sends nothing")
    return _describe(client, client_bytes, server_bytes)


def _describe(client: socket.socket, client_bytes: int, server_bytes: int) -> Connection:
    here, there = client.getsockname(), client.getpeername()
    return Connection(here[0], here[1], there[0], there[1], client_bytes, server_bytes)


def unacknowledged(client: socket.socket) -> int:
    """Segments that were sent and are not acknowledged (tcpi_unacked of struct tcp_info)."""
    return int(struct.unpack_from("I", client.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 104), 24)[0])


def close_with_reset(client: socket.socket) -> None:
    """Close so that the kernel sends RST instead of FIN (SO_LINGER with a time of 0)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def exchange(
    address: str, port: int, sizes: Sequence[tuple[int, int]], *, reset: bool = False, interval: float = 0.0
) -> list[Connection]:
    """One connection after the other, each with (client bytes, server bytes), closed by FIN or, with `reset`, RST."""
    done = []
    for client_bytes, server_bytes in sizes:
        client = connect(address, port)
        done.append(talk(client, client_bytes, server_bytes))
        close_with_reset(client) if reset else client.close()
        time.sleep(interval)
    return done


@contextlib.contextmanager
def held(address: str, port: int, sizes: Sequence[tuple[int, int]]) -> Iterator[list[Connection]]:
    """The same connections, all open at once while the block runs, their bytes already exchanged."""
    with contextlib.ExitStack() as stack:
        yield [talk(stack.enter_context(connect(address, port)), *pair) for pair in sizes]


def refused(address: str, port: int, count: int = 1) -> list[Connection]:
    """Connections to where nobody listens, with the errno's name; raises `RuntimeError` when one succeeds.

    `port` is none of those that are given to clients (net.ipv4.ip_local_port_range): one would reach itself.
    """
    done = []
    for _ in range(count):
        with socket.socket(_family(address), socket.SOCK_STREAM) as client:
            client.settimeout(TIMEOUT)
            client.bind(("::" if ":" in address else "0.0.0.0", 0))
            source = client.getsockname()
            try:
                client.connect((address, port))
            except OSError as error:
                name = type(error).__name__
                done.append(Connection(source[0], source[1], address, port, 0, 0, name))
            else:
                raise RuntimeError(f"{address} port {port} was expected to refuse")
    return done


def upload(address: str, port: int, seconds: float, rate: float = 0.0) -> Connection:
    """Send for so long over one connection, a block at least, then shut down and wait until the server has read all.

    `rate` limits it, in bytes per second (0: as fast as it goes). The result's client_bytes is the exact count.
    """
    with connect(address, port) as client:
        client.sendall(HEADER.pack(OPEN_ENDED, 0))
        sent, start = HEADER.size, time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds or sent == HEADER.size:
            if rate and sent > rate * elapsed:
                time.sleep(min(0.05, (sent - rate * elapsed) / rate))
                continue
            sent += client.send(BLOCK)
        done = _describe(client, sent, 0)
        client.shutdown(socket.SHUT_WR)
        _receive(client, 1)
        return done


def _sizes(text: str) -> list[tuple[int, int]]:
    return [(int(sent), int(wanted)) for sent, _, wanted in (pair.partition(":") for pair in text.split(","))]


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Traffic of which every byte is known.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("server", "client", "upload", "refused"):
        command = commands.add_parser(name)
        command.add_argument("--address", default="127.0.0.1")
        command.add_argument("--port", type=int, default=0, required=name != "server")
        if name == "client":
            command.add_argument("--sizes", type=_sizes, default=[(100, 100)], help="CLIENT:SERVER bytes, ...")
            command.add_argument("--repeat", type=int, default=1, help="go through the sizes so many times")
            command.add_argument("--hold", action="store_true", help="keep all open until standard input closes")
            command.add_argument("--reset", action="store_true", help="close with RST")
            command.add_argument("--interval", type=float, default=0.0, help="seconds between connections")
        elif name == "upload":
            command.add_argument("--seconds", type=float, required=True)
            command.add_argument("--rate", type=float, default=0.0, help="bytes per second")
        elif name == "refused":
            command.add_argument("--count", type=int, default=1)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    arguments = _arguments(given)
    address, port = arguments.address, arguments.port
    if arguments.command == "server":
        with Server(address, port) as server:
            print(json.dumps({"address": address, "port": server.port, "pid": os.getpid()}), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                sys.stdin.read()
        return
    if arguments.command == "client":
        sizes = arguments.sizes * arguments.repeat
        if arguments.hold:
            with held(address, port, sizes) as connections:
                for connection in connections:
                    connection.print()
                sys.stdin.read()
            return
        done = exchange(address, port, sizes, reset=arguments.reset, interval=arguments.interval)
    elif arguments.command == "upload":
        done = [upload(address, port, arguments.seconds, arguments.rate)]
    else:
        done = refused(address, port, arguments.count)
    for connection in done:
        connection.print()


if __name__ == "__main__":
    main()
