"""A workload that knows who owns every one of its flows: `python -m tests.support.owners [DESCRIPTOR]`.

The descriptor is that of a cgroup's file cgroup.procs: one of the cases moves into it.

It prints `ready` once the connections that are open before the recording are there, and waits for a line; then it makes
the rest, prints `done`, and ends after another line. Its other lines are one `End` each: one end of one flow and the
processes that may rightly be called its owner. That is the process that connected; of the server's end the one that
held it last, whether it accepted it, inherited it or was handed it; and of what nobody ever accepted, whoever listens.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.support import owner_ends
from tests.support.owner_ends import (
    HERE,
    NOBODY,
    REQUEST,
    accepting,
    answer,
    child,
    clients,
    ended,
    listener,
    pair,
    port_of,
    reset,
    tell,
)


def short() -> None:
    pair("short", 400)


def server_first() -> None:
    pair("server closes first", 150, lambda one: answer(one, "server closes first", first=True))


def client_resets() -> None:
    pair("client resets", 200, end=reset)


def server_resets() -> None:
    def serve(connection: socket.socket) -> None:
        tell("server resets", "server", (connection.getpeername()[1], port_of(connection)))
        connection.recv(4096)
        reset(connection)

    pair("server resets", 150, serve)


def unread() -> None:
    """Closed with data unread: the kernel resets."""

    def serve(connection: socket.socket) -> None:
        tell("unread", "server", (connection.getpeername()[1], port_of(connection)))
        connection.recv(1)
        connection.close()

    pair("unread", 100, serve)


def forked_workers() -> None:
    """The parent listens, its workers accept; a worker that is killed leaves its connection to the kernel to end."""
    made = listener()
    port = port_of(made)

    def worker() -> None:
        while True:
            connection, _ = made.accept()
            answer(connection, "forked workers")

    workers = [child(worker) for _ in range(4)]
    ended(*(child(lambda: clients("forked workers", port, 100)) for _ in range(3)))
    held = socket.create_connection((HERE, port))
    tell("forked workers", "client", (port_of(held), port))
    held.sendall(REQUEST)
    held.recv(4096)
    for pid in workers:
        os.kill(pid, 9)
    ended(*workers)
    held.close()
    made.close()


def fork_for_each() -> None:
    """A process for each connection: it inherits the socket, its parent lets go of its own descriptor, and it exits
    without closing."""
    case, made = "fork for each", listener()
    port = port_of(made)

    def serve(connection: socket.socket) -> None:
        tell(case, "server", (connection.getpeername()[1], port))
        connection.recv(4096)
        os.read(alone, 1)
        connection.sendall(REQUEST)

    asking = child(lambda: clients(case, port, 60))
    started = []
    for _ in range(60):
        connection, _ = made.accept()
        alone, let_go = os.pipe()
        started.append(child(lambda connection=connection: serve(connection)))  # type: ignore[misc]
        connection.close()
        os.write(let_go, b"x")
        os.close(alone), os.close(let_go)
    ended(asking, *started)
    made.close()


def handed_over() -> None:
    """One process accepts and hands the descriptor to another over a Unix socket."""
    case, made = "handed over", listener()
    port = port_of(made)
    giving, taking = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def worker() -> None:
        giving.close()
        for _ in range(80):
            _, descriptors, _, _ = socket.recv_fds(taking, 1, 1)
            taking.recv(1)  # the other has let go of it
            answer(socket.socket(fileno=descriptors[0]), case)

    def acceptor() -> None:
        for _ in range(80):
            connection, _ = made.accept()
            socket.send_fds(giving, [b"x"], [connection.fileno()])
            connection.close()
            giving.send(b"y")

    ended(child(worker), child(acceptor), child(lambda: clients(case, port, 80)))
    made.close()


def exits_before_its_sockets() -> None:
    """A client sends more than the server reads for now, and is gone long before the connection is."""
    case, made = "exits before its sockets", listener()
    port = port_of(made)

    def leave() -> None:
        one = socket.create_connection((HERE, port))
        tell(case, "client", (port_of(one), port))
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(bytes(65536))

    def server() -> None:
        held = [made.accept()[0] for _ in range(30)]
        os.read(wait, 1)
        for one in held:
            tell(case, "server", (one.getpeername()[1], port))
            while one.recv(1 << 20):
                pass
            one.close()

    wait, go = os.pipe()
    serving = child(server)
    ended(*(child(leave) for _ in range(30)))
    os.write(go, b"x")
    ended(serving)
    made.close()


def one_port_many_listeners() -> None:
    """SO_REUSEPORT: several processes, each with a listener of its own on one port."""
    case, first = "one port, many listeners", listener(shared=True)
    port = port_of(first)
    ready, say = os.pipe()

    def server() -> None:
        mine = listener(port, shared=True)
        first.close()
        os.write(say, b"x")
        while True:
            connection, _ = mine.accept()
            answer(connection, case)

    serving = [child(server) for _ in range(3)]
    for _ in serving:
        os.read(ready, 1)
    first.close()
    ended(*(child(lambda: clients(case, port, 60)) for _ in range(3)))
    for pid in serving:
        os.kill(pid, 9)
    ended(*serving)


def never_accepted() -> None:
    """Some are closed by the client, some are still there when the listener goes."""
    case = "never accepted"
    readable, writable = os.pipe()
    wait, go = os.pipe()

    def server() -> None:
        made = listener()
        os.write(writable, struct.pack("H", port_of(made)))
        os.read(wait, 1)

    serving = child(server)
    (port,) = struct.unpack("H", os.read(readable, 2))

    def ask() -> None:
        held = []
        for number in range(60):
            one = socket.create_connection((HERE, port))
            tell(case, "client", (port_of(one), port))
            tell(case, "server", (port_of(one), port), serving)
            one.send(REQUEST)
            held.append(one) if number % 3 else one.close() if number % 2 else reset(one)
        os.write(go, b"x")
        for one in held:
            with contextlib.suppress(ConnectionError):
                one.recv(1)
            one.close()

    ended(child(ask), serving)


def reset_before_accept() -> None:
    """The server accepts what its client has reset already."""
    case = "reset before accept"
    readable, writable = os.pipe()

    def server() -> None:
        made = listener()
        port = port_of(made)
        os.write(writable, struct.pack("H", port))
        os.read(wait, 1)
        for _ in range(50):
            connection, address = made.accept()
            tell(case, "server", (address[1], port))
            connection.close()

    wait, go = os.pipe()
    serving = child(server)
    (port,) = struct.unpack("H", os.read(readable, 2))
    ended(child(lambda: _reset_at_once(case, port, 50)))
    os.write(go, b"x")
    ended(serving)


def _reset_at_once(case: str, port: int, count: int) -> None:
    for _ in range(count):
        one = socket.create_connection((HERE, port))
        tell(case, "client", (port_of(one), port))
        reset(one)


def refused() -> None:
    def ask() -> None:
        with socket.socket() as closed:
            closed.bind((HERE, 0))
            port = port_of(closed)
            held = [socket.socket() for _ in range(80)]  # all at once: no port twice
            for one in held:
                one.bind((HERE, 0))
                tell("refused", "client", (port_of(one), port))
                with contextlib.suppress(ConnectionError):
                    one.connect((HERE, port))

    ended(child(ask))


def another_user() -> None:
    def as_nobody() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        pair("another user", 50)

    ended(child(as_nobody))


def renamed_threads() -> None:
    """A process whose threads connect and serve under names of their own."""

    def process() -> None:
        made = listener()
        port = port_of(made)

        def named(work: Callable[[], None]) -> None:
            Path("/proc/thread-self/comm").write_text("other-name")
            work()

        threads = [
            threading.Thread(target=named, args=(lambda: clients("renamed threads", port, 40),)),
            threading.Thread(target=named, args=(lambda: accepting(made, "renamed threads", 40),)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ended(child(process))


def datagrams() -> None:
    """UDP: many clients, connected and not, and one server."""
    case = "datagrams"
    readable, writable = os.pipe()

    def server() -> None:
        serving = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        serving.bind((HERE, 0))
        port = port_of(serving)
        os.write(writable, struct.pack("H", port))
        for _ in range(120):
            data, address = serving.recvfrom(4096)
            tell(case, "server", (address[1], port), transport="udp")
            serving.sendto(data, address)

    def ask() -> None:
        held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(40)]
        for number, one in enumerate(held):
            one.bind((HERE, 0))
            tell(case, "client", (port_of(one), port), transport="udp")
            if number % 2:
                one.connect((HERE, port))
                one.send(REQUEST)
            else:
                one.sendto(REQUEST, (HERE, port))
            one.recv(4096)
        os.write(writable, b"x")
        os.read(wait, 1)  # they stay open together: no port twice

    wait, go = os.pipe()
    serving = child(server)
    (port,) = struct.unpack("H", os.read(readable, 2))
    asking = [child(ask) for _ in range(3)]
    for _ in asking:
        os.read(readable, 1)
    os.write(go, b"xxx")
    ended(*asking, serving)


def in_a_container(cgroup: int) -> None:
    def process() -> None:
        os.write(cgroup, b"0")  # whoever writes moves
        owner_ends.contained = True
        pair("in a container", 100)

    ended(child(process))


class OpenBefore:
    """Connections that are there before the recording begins, and go on beside it; forked workers hold the servers'.

    Some end while it runs, with the process that holds them killed; the others outlive it.
    """

    case = "open before"

    def __init__(self) -> None:
        made = listener()
        port = port_of(made)
        readable, writable = os.pipe()

        def worker() -> None:
            held = [made.accept()[0] for _ in range(5)]
            for one in held:
                tell(self.case, "server", (one.getpeername()[1], port))
                one.recv(4096)
                one.sendall(REQUEST)
            os.write(writable, b"x")
            time.sleep(600)

        def holder() -> None:
            held = [socket.create_connection((HERE, port)) for _ in range(5)]
            for one in held:
                tell(self.case, "client", (port_of(one), port))
                one.sendall(REQUEST)
            os.write(writable, b"x")
            time.sleep(600)

        made_children = []
        for _ in range(4):
            made_children += [child(worker), child(holder)]
        for _ in made_children:
            os.read(readable, 1)
        made.close()
        self.killed, self.staying = made_children[:4], made_children[4:]

    def end_some(self) -> None:
        for pid in self.killed:
            os.kill(pid, 9)
        ended(*self.killed)

    def end(self) -> None:
        for pid in self.staying:
            os.kill(pid, 9)
        ended(*self.staying)


CASES: tuple[Callable[[], None], ...] = (
    short,
    server_first,
    client_resets,
    server_resets,
    unread,
    forked_workers,
    fork_for_each,
    handed_over,
    exits_before_its_sockets,
    one_port_many_listeners,
    never_accepted,
    reset_before_accept,
    refused,
    another_user,
    renamed_threads,
    datagrams,
)


def main() -> None:
    with contextlib.suppress(PermissionError):
        os.setsid()
    try:
        workload()
    except BaseException as problem:
        os.write(2, f"{problem}\n".encode())
        os.killpg(0, 9)  # what still runs of it would hold the pipe open


def workload() -> None:
    before = OpenBefore()
    try:
        print("ready", flush=True)
        sys.stdin.readline()
        cases = [*CASES, *((lambda cgroup=cgroup: in_a_container(cgroup)) for cgroup in map(int, sys.argv[1:]))]
        # All at once: whose turn it is on a processor says nothing about whose socket it is that changes there.
        ended(*(child(case) for case in cases))
        before.end_some()
        print("done", flush=True)
        sys.stdin.readline()
    finally:
        before.end()


if __name__ == "__main__":
    main()
