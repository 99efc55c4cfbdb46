"""The programs of the workloads that are not Debian's: clients at a steady rate, a small HTTP server, a scanner.

    python -m sample_traces.programs clients '{"targets": {"web": "http://10.30.1.2:80/2000"}, "rate": 20, ...}'
    python -m sample_traces.programs server '{"address": "10.30.1.2", "port": 8000, ...}'
    python -m sample_traces.programs scan '{"addresses": ["10.30.1.2"], "ports": [22, 80], "rate": 50}'

They take their settings as one JSON object (`Load`, `Service`, `Targets`) and further ones, a line each, on standard
input: `{"rate": 40}` changes the rate from now on, `{"end": true}` or the end of the input ends the program. Clients
then print what they counted as one line of JSON. Paths say what is wanted: `/2000` is answered with 2,000 bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import dns.message
import dns.rrset

TIMEOUT = 20.0

ANY_SERVER = ssl.create_default_context()
ANY_SERVER.check_hostname, ANY_SERVER.verify_mode = False, ssl.CERT_NONE


@dataclass(frozen=True)
class Load:
    """What the clients do: requests at `rate` per second in all (Poisson) to one of the targets (label -> URL), each
    from one of `sources`; drawn evenly, or by `shares` (label -> weight) and by `weights` (one a source).

    `upload` bytes go with a request. Up to `pool` connections a target are kept and used again, each by one request at
    a time; without, every request opens its own. It is always the clients who close. `timeout` seconds may one request
    take, and at most `concurrency` are under way at once (0: any number). With `fan` every request goes to all targets
    at once. `resolver` is a name server that is asked before each. `names` are the hosts that are asked for (label ->
    name): also the server name of the TLS handshake with an https URL, for which any certificate will do.
    """

    targets: dict[str, str]
    rate: float = 10.0
    shares: dict[str, float] = field(default_factory=dict)
    sources: tuple[str, ...] = ("",)
    weights: tuple[float, ...] = ()
    upload: int = 0
    pool: int = 0
    timeout: float = TIMEOUT
    concurrency: int = 0
    fan: bool = False
    resolver: str = ""
    names: dict[str, str] = field(default_factory=dict)
    seed: int = 1

    def name(self, label: str) -> str:
        """The host that is asked for."""
        return self.names.get(label, "shop.example")


class Clients:
    """Open-loop clients: a request that takes long does not hold up the next one."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.draw = random.Random(load.seed)
        self.done: dict[str, Counter[str]] = {label: Counter() for label in load.targets}
        self.moved: Counter[str] = Counter()
        self.idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}
        self.running: set[asyncio.Task[None]] = set()

    def change(self, settings: dict[str, Any]) -> None:
        self.load = replace(self.load, **settings)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self.draw.expovariate(self.load.rate)
            if due - loop.time() > 0.5:
                due = loop.time() + 0.5  # a new rate counts soon, however low the old one was
                await asyncio.sleep(0.5)
                continue
            await asyncio.sleep(max(0.0, due - loop.time()))
            labels = list(self.load.targets)
            shares = [self.load.shares.get(label, 1.0) for label in labels]
            for label in labels if self.load.fan else self.draw.choices(labels, shares):
                if not self.load.concurrency or len(self.running) < self.load.concurrency:
                    source = self.draw.choices(self.load.sources, self.load.weights or None)[0]
                    task = asyncio.create_task(self.request(label, source))
                    self.running.add(task)
                    task.add_done_callback(self.running.discard)

    async def request(self, label: str, source: str) -> None:
        url = urlsplit(self.load.targets[label])
        count = self.done[label]
        keep = bool(self.load.pool)
        body = bytes(self.load.upload)
        head = (
            f"{'POST' if body else 'GET'} {url.path} HTTP/1.1\r\nHost: {self.load.name(label)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        count["requests"] += 1
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self.load.timeout):
                if self.load.resolver:
                    await self.resolve(label)
                reader, writer = await self.connection(label, source, keep)
                writer.write(head + body)
                count["client_bytes"] += len(head) + len(body)
                await writer.drain()
                answer = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(answer))
                count["server_bytes"] += len(answer) + _length(answer)
                self.moved[source] += len(head) + len(body) + len(answer) + _length(answer)
                status = answer.split(b" ", 2)[1].decode()
                count["answered" if status == "200" else f"status {status}"] += 1
        except (OSError, EOFError, asyncio.IncompleteReadError, TimeoutError) as problem:
            number = getattr(problem, "errno", None)
            count[os.strerror(number) if number else type(problem).__name__] += 1
            keep = False
        if writer is None:
            return
        if keep and len(self.idle[label]) < self.load.pool:
            self.idle[label].append((reader, writer))
        else:
            writer.close()

    async def connection(
        self, label: str, source: str, keep: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        waiting = self.idle.setdefault(label, [])
        while keep and waiting:
            reader, writer = waiting.pop(0)
            if not reader.at_eof():
                return reader, writer
            writer.close()
        url = urlsplit(self.load.targets[label])
        assert url.hostname
        local = (source, 0) if source else None
        secure = {"ssl": ANY_SERVER, "server_hostname": self.load.name(label)} if url.scheme == "https" else {}
        opened = await asyncio.open_connection(url.hostname, url.port, local_addr=local, **secure)
        self.done[label]["connections"] += 1
        return opened

    async def resolve(self, label: str) -> None:
        """Ask for the target's name, twice when no answer comes, as libc does."""
        loop = asyncio.get_running_loop()
        query = dns.message.make_query(f"{label}.shop.example", "A").to_wire()
        for _ in range(2):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.setblocking(False)
                asking.connect((self.load.resolver, 53))
                await loop.sock_sendall(asking, query)
                try:
                    await asyncio.wait_for(loop.sock_recv(asking, 512), 2.0)
                    return
                except TimeoutError:
                    continue
        raise TimeoutError

    async def end(self) -> None:
        """Wait for what is under way, close what is kept, and say what was done."""
        if self.running:
            await asyncio.wait(self.running)
        for waiting in self.idle.values():
            for _, writer in waiting:
                writer.close()
        await asyncio.sleep(0)
        top, top_bytes = max(self.moved.items(), key=lambda one: one[1], default=("", 0))
        counts = {label: dict(sorted(count.items())) for label, count in self.done.items()}
        print(json.dumps({**counts, "top": {"source": top, "bytes": top_bytes}}), flush=True)


def _length(head: bytes) -> int:
    """How long the body is that comes after this head."""
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.split(b"\r\n", 1)[0]) if found else 0


@dataclass(frozen=True)
class Service:
    """What the server does: answers after `delay` seconds of work, at most `workers` requests at once.

    `backlog` is that of its listening socket, of which it takes at most `accepts` connections a second (0: as they
    come); `database` is a Redis server that it asks once a request, over one connection. Without `read` it leaves the
    requests' bodies unread. It ends the share `abort` of the connections with a reset instead of an answer.
    """

    address: str
    port: int
    delay: float = 0.0
    workers: int = 64
    backlog: int = 128
    accepts: float = 0.0
    database: str = ""
    read: bool = True
    abort: float = 0.0


class Server:
    """An HTTP server whose faults can be switched on."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.free = asyncio.Semaphore(service.workers)
        self.socket = socket.create_server((service.address, service.port), backlog=service.backlog)
        self.socket.setblocking(False)
        self.lock = asyncio.Lock()
        self.draw = random.Random(1)
        self.running: set[asyncio.Task[None]] = set()

    def change(self, settings: dict[str, Any]) -> None:
        self.service = replace(self.service, **settings)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        if self.service.database:
            self.database = await asyncio.open_connection(self.service.database, 6379)
        print("ready", flush=True)
        while True:
            if self.service.accepts:
                await asyncio.sleep(1 / self.service.accepts)
            connection, _ = await loop.sock_accept(self.socket)
            task = asyncio.create_task(self.serve(connection))
            self.running.add(task)
            task.add_done_callback(self.running.discard)

    async def serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while await self.answer(reader, writer):
                pass
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        while not self.service.read:
            await asyncio.sleep(0.1)
        await reader.readexactly(_length(head))
        if self.draw.random() < self.service.abort:
            lingering = struct.pack("ii", 1, 0)  # no time to linger: close sends a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, lingering)
            return False
        async with self.free:
            if self.service.database:
                await self.ask()
            if self.service.delay:
                await asyncio.sleep(self.service.delay)
        body = bytes(int(head.split(b" ", 2)[1].rpartition(b"/")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True

    async def ask(self) -> None:
        reader, writer = self.database
        async with self.lock:
            writer.write(b"*2\r\n$4\r\nINCR\r\n$8\r\nrequests\r\n")
            await reader.readuntil(b"\r\n")

    async def end(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Targets:
    """Every address is tried on every port, in a drawn order, `rate` a second."""

    addresses: tuple[str, ...]
    ports: tuple[int, ...]
    rate: float = 50.0


class Scan:
    """Connects and closes at once, to see what listens."""

    def __init__(self, targets: Targets) -> None:
        self.targets = targets
        self.count: Counter[str] = Counter()

    def change(self, settings: dict[str, Any]) -> None:
        self.targets = replace(self.targets, **settings)

    async def run(self) -> None:
        places = [(address, port) for address in self.targets.addresses for port in self.targets.ports]
        random.Random(1).shuffle(places)
        for address, port in places:
            self.count["contacts"] += 1
            try:
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
                self.count["open"] += 1
            except OSError:
                self.count["refused"] += 1
            await asyncio.sleep(1 / self.targets.rate)
        print(json.dumps(self.count), flush=True)

    async def end(self) -> None:
        pass


@dataclass(frozen=True)
class Zone:
    """A name server at `address` that says the same of every name, while it answers at all."""

    address: str
    answers: bool = True


class Resolver:
    """Answers over UDP."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((zone.address, 53))
        self.socket.setblocking(False)

    def change(self, settings: dict[str, Any]) -> None:
        self.zone = replace(self.zone, **settings)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        print("ready", flush=True)
        while True:
            wire, client = await loop.sock_recvfrom(self.socket, 512)
            if self.zone.answers:
                query = dns.message.from_wire(wire)
                response = dns.message.make_response(query)
                name = query.question[0].name
                response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
                await loop.sock_sendto(self.socket, response.to_wire(), client)

    async def end(self) -> None:
        self.socket.close()


class Program(Protocol):
    """What can be run: it works until it is told to end, or until it is done."""

    def change(self, settings: dict[str, Any]) -> None: ...
    async def run(self) -> None: ...
    async def end(self) -> None: ...


PROGRAMS: dict[str, Callable[[dict[str, Any]], Program]] = {
    "clients": lambda settings: Clients(Load(**settings)),
    "server": lambda settings: Server(Service(**settings)),
    "resolver": lambda settings: Resolver(Zone(**settings)),
    "scan": lambda settings: Scan(Targets(**settings)),
}


async def drive(program: Program) -> None:
    """Run the program until its input says `end`."""
    ended = asyncio.Event()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    loop = asyncio.get_running_loop()

    def read() -> None:
        line = sys.stdin.readline()
        settings = json.loads(line) if line else {"end": True}
        if settings.pop("end", False):
            loop.remove_reader(sys.stdin)
            ended.set()
        elif settings:
            program.change(settings)

    loop.add_reader(sys.stdin, read)
    work = asyncio.create_task(program.run())
    wait = asyncio.create_task(ended.wait())
    await asyncio.wait({work, wait}, return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()
    work.cancel()
    await program.end()


async def main(kind: str, settings: dict[str, Any]) -> None:
    """Run one of `PROGRAMS`; it may use as many descriptors as the host allows."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    await drive(PROGRAMS[kind](settings))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
