"""UDP traffic of which every byte is known."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from types import TracebackType


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Echo:
    """Answers every datagram with one of `factor` times its size, until closed; counts both."""

    def __init__(self, address: str, port: int = 0, factor: int = 2) -> None:
        self.socket = socket.socket(_family(address), socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self.socket.bind((address, port))
        self.socket.settimeout(0.05)
        self.address, self.port, self.factor = address, self.socket.getsockname()[1], factor
        self.received_bytes = self.received_packets = 0
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Echo:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._thread.join(10)
        self.socket.close()

    def _serve(self) -> None:
        while not self._ended:
            try:
                data, peer = self.socket.recvfrom(65535)
            except TimeoutError:
                continue
            self.received_bytes += len(data)
            self.received_packets += 1
            self.socket.sendto(bytes(len(data) * self.factor), peer)


def ask(address: str, port: int, sizes: Sequence[int], *, connected: bool = True, factor: int = 2) -> tuple[str, int]:
    """Send datagrams of these sizes to an `Echo` through one socket and await each answer; the socket's own address."""
    with socket.socket(_family(address), socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        if connected:
            client.connect((address, port))
        for size in sizes:
            client.send(bytes(size)) if connected else client.sendto(bytes(size), (address, port))
            if len(client.recv(65535)) != size * factor:
                raise RuntimeError("an answer of another size")
        name = client.getsockname()
        return name[0], name[1]
