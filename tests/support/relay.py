"""A relay between real sockets on loopback, and what its servers do.

The listener is an ordinary one that a client dials at another loopback address: no rules and no root are needed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable

import pyarrow as pa

from recorder.sources.tproxy.dial import RawSocket
from recorder.sources.tproxy.journal import Journal
from recorder.sources.tproxy.relay import Options, Relay
from recorder.sources.tproxy.rows import WorkerStream
from tests.support.namespaces import wait_until

Serve = Callable[[socket.socket], None]


class Proxied:
    """A relay in a thread, and a server behind it that runs `serve` for each connection."""

    def __init__(self, serve: Serve, *, server: tuple[str, int] | None = None, session_limit: int = 1000) -> None:
        self.journal_out, journal_in = os.pipe()
        os.set_blocking(journal_in, False)
        os.set_blocking(self.journal_out, False)
        self.listener = socket.create_server(("0.0.0.0", 0), backlog=512)
        self.listener.setblocking(False)
        self.behind = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.target = server or self.behind.getsockname()
        self.relay = Relay(Options(self._dial, [0], session_limit, 8, False), Journal(journal_in))
        self.relay.listen(RawSocket(fileno=os.dup(self.listener.fileno())), False)
        self._serve = serve
        self._ending = False
        self.paused = threading.Event()  # while set, the relay takes no turn
        self.counters: list[dict[str, int]] = []
        self.stream = WorkerStream("test", lambda client: "none")
        self.threads = [
            threading.Thread(target=self._accept, daemon=True),
            threading.Thread(target=self._run, daemon=True),
        ]
        for thread in self.threads:
            thread.start()

    def _dial(self, peer: tuple[str, int], target: tuple[str, int], ipv6: bool) -> RawSocket:
        made = RawSocket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, 6)
        number = made.connect_ex(self.target)
        if number not in (0, 115):
            made.close()
            raise OSError(number, "connect")
        return made

    def _run(self) -> None:
        while not self._ending:
            if self.paused.is_set():
                time.sleep(0.001)
                continue
            self.relay.turn(0.01)
            self.relay.resume()
            self.relay.journal.flush()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.behind.accept()
                threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._serve(connection)

    def dial(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.9", self.listener.getsockname()[1]), timeout=20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def rows(self, count: int) -> pa.Table:
        """The first `count` rows, once they are there."""
        batches: list[pa.RecordBatch] = []

        def there() -> bool:
            with contextlib.suppress(BlockingIOError):
                self.stream.feed(os.read(self.journal_out, 1 << 20))
            batches.extend(self.stream.take())
            return sum(batch.num_rows for batch in batches) >= count

        wait_until(there, f"{count} rows")
        return pa.Table.from_batches(batches)

    def close(self) -> None:
        self._ending = True
        self.threads[1].join(5)
        self.relay.end_all()
        self.behind.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.behind.close()


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def echo(connection: socket.socket) -> None:
    with connection:
        while part := connection.recv(1 << 16):
            connection.sendall(part)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def only(table: pa.Table) -> dict:
    assert table.num_rows == 1
    return table.to_pylist()[0]
