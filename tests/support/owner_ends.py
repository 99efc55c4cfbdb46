"""What the workload of known owners is made of: processes that make and end connections, and say whose each one is."""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  (what connecting would import, of a file that another user may not read)
import json
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

HERE = "127.0.0.1"
REQUEST = bytes(100)
NOBODY = 65534
Serve = Callable[[socket.socket, str], None]


@dataclass(frozen=True)
class End:
    """One end of a flow: `case` is the case of the workload, `pids` any of its rightful owners."""

    case: str
    transport: str
    role: str
    client_port: int
    server_port: int
    pids: tuple[int, ...]
    uid: int
    contained: bool = False

    @property
    def key(self) -> tuple[str, str, int, int]:
        return self.transport, self.role, self.client_port, self.server_port


contained = False


def tell(case: str, role: str, ports: tuple[int, int], *pids: int, transport: str = "tcp") -> None:
    """Say who owns one end, in one write: many processes share the pipe."""
    end = End(case, transport, role, *ports, pids or (os.getpid(),), os.getuid(), contained)
    os.write(1, (json.dumps(asdict(end)) + "\n").encode())


def child(work: Callable[[], object]) -> int:
    """Do something in a process of its own, which ends without tidying up; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as problem:
            os.write(2, f"{type(problem).__name__}: {problem} in {work}\n".encode())
            os._exit(1)
        os._exit(0)
    return pid


def ended(*pids: int) -> None:
    for pid in pids:
        _, status = os.waitpid(pid, 0)
        if status not in (0, 9):
            raise RuntimeError(f"process {pid} of the workload failed: {status}")


def listener(port: int = 0, *, shared: bool = False) -> socket.socket:
    """A listening socket; `shared`: others may listen on its port too."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
    made.bind((HERE, port))
    made.listen(4096)
    return made


def port_of(made: socket.socket) -> int:
    return int(made.getsockname()[1])


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def clients(case: str, port: int, count: int, end: Callable[[socket.socket], None] = socket.socket.close) -> None:
    """So many connections, one after the other: ask, read the answer, end."""
    for _ in range(count):
        one = socket.create_connection((HERE, port))
        tell(case, "client", (port_of(one), port))
        with contextlib.suppress(ConnectionError):
            one.sendall(REQUEST)
            one.recv(4096)
        end(one)


def answer(connection: socket.socket, case: str, *, first: bool = False) -> None:
    """Serve one accepted connection, and close it (before the client does: `first`)."""
    tell(case, "server", (connection.getpeername()[1], port_of(connection)))
    with contextlib.suppress(ConnectionError):
        connection.recv(4096)
        connection.sendall(REQUEST)
        if not first:
            connection.recv(1)
    connection.close()


def accepting(made: socket.socket, case: str, count: int, serve: Callable[[socket.socket], None] | None = None) -> None:
    """Accept so many, one at a time."""
    for _ in range(count):
        connection, _ = made.accept()
        serve(connection) if serve else answer(connection, case)


def pair(
    case: str,
    count: int,
    serve: Callable[[socket.socket], None] | None = None,
    end: Callable[[socket.socket], None] = socket.socket.close,
) -> None:
    """One server process and one client process. The server's own process listens."""
    readable, writable = os.pipe()

    def server() -> None:
        made = listener()
        os.write(writable, struct.pack("H", port_of(made)))
        accepting(made, case, count, serve)

    serving = child(server)
    (port,) = struct.unpack("H", os.read(readable, 2))
    os.close(readable), os.close(writable)
    ended(child(lambda: clients(case, port, count, end)), serving)
