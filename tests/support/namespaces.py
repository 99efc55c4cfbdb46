"""Network namespaces for tests: unique, joined by veth pairs, and gone afterwards whatever happens.

    with Network() as network:
        client, server = network.namespace("client"), network.namespace("server")
        link = network.link(client, server)          # link.first.ipv4, link.second.ipv6, ...
        daemon = server.start("nginx", "-c", path)    # ended with the network
        client.run("curl", link.second.ipv4)

Names carry the pid of the test process (`nrt<pid>-<counter>-<label>`), so that runs at the same time do not meet,
and so that what a killed run left behind is recognised and swept away by the next one.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

PREFIX = "nrt"
NETNS_FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
ROOT = Path(__file__).resolve().parents[2]

_counter = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def end_process(process: subprocess.Popen[Any], patience: float = 5.0) -> int:
    """End one process that we started, and what it started in its session: SIGTERM, then SIGKILL.

    Only its own process group is signalled, and only while it has not been reaped (its pid cannot be a stranger's).
    """
    if process.poll() is None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    return process.returncode


class Namespace:
    """One network namespace, made by `Network.namespace`. Its loopback is up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._processes: list[subprocess.Popen[Any]] = []

    @property
    def path(self) -> Path:
        return NETNS_FOLDER / self.name

    @property
    def inode(self) -> int:
        """What netrec records as `netns`."""
        return self.path.stat().st_ino

    def command(self, *command: str | Path) -> list[str]:
        """The command line that runs `command` in here; `ip` execs it, so the pid is the command's own."""
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, *command: str | Path, timeout: float = 60, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run to the end, from the checkout; raises `RuntimeError` with its stderr when it fails and `check`."""
        done = subprocess.run(self.command(*command), capture_output=True, text=True, timeout=timeout, cwd=ROOT)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))} in {self.name}: exit {done.returncode}: {done.stderr}")
        return done

    def start(self, *command: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start in the background, from the checkout; ended when the network is, if not before (`end_process`).

        Standard input and output are text pipes, standard error is the test's, unless `options` say otherwise.
        """
        settings: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "text": True,
            "cwd": ROOT,
        } | options
        process = subprocess.Popen(self.command(*command), start_new_session=True, **settings)
        self._processes.append(process)
        return process

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread work in here: sockets made inside stay in this namespace for life.

        Threads started inside inherit it; the calling thread is back in its own namespace afterwards.
        """
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(self.path, os.O_RDONLY)
        try:
            _setns(inside)
            try:
                yield
            finally:
                _setns(before)
        finally:
            os.close(inside)
            os.close(before)

    def sysctl(self, **values: object) -> None:
        """Set kernel parameters of this namespace: `sysctl(net__ipv4__ip_forward=1)`, `__` for the dot."""
        settings = [f"{key.replace('__', '.')}={value}" for key, value in values.items()]
        self.run("sysctl", "-qw", *settings)

    def end_processes(self) -> None:
        for process in reversed(self._processes):
            end_process(process)
        self._processes.clear()


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True)
class End:
    """One end of a link: where it is and how it is reached (addresses as canonical text)."""

    namespace: Namespace
    device: str
    ipv4: str
    ipv6: str

    def address(self, version: int) -> str:
        return self.ipv4 if version == 4 else self.ipv6


@dataclass(frozen=True)
class Link:
    """A veth pair between two namespaces, with one IPv4 /24 and one IPv6 /64 network on it."""

    first: End
    second: End


class Network:
    """A context manager that makes namespaces and links, and removes all of it at the end.

    Processes started through its namespaces are ended first, each by its own pid; then the namespaces go, and with
    them their devices. This also happens on failure and on KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self._namespaces: list[Namespace] = []
        self._links = 0

    def __enter__(self) -> Network:
        sweep()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        problems: list[Exception] = []
        # A namespace is noted before it is made: one that failed half way is removed too.
        steps = [namespace.end_processes for namespace in self._namespaces]
        steps += [lambda name=namespace.name: _delete(name) for namespace in reversed(self._namespaces)]  # type: ignore[misc]
        for step in steps:
            try:
                step()
            except Exception as problem:
                problems.append(problem)
        self._namespaces.clear()
        if problems and error is None:
            raise problems[0]

    def namespace(self, label: str = "n") -> Namespace:
        """A new namespace with its loopback up (127.0.0.1 and ::1)."""
        name = f"{PREFIX}{os.getpid()}-{next(_counter)}-{label}"
        created = Namespace(name)
        self._namespaces.append(created)
        _ip("netns", "add", name)
        _ip("-n", name, "link", "set", "lo", "up")
        return created

    def link(self, first: Namespace, second: Namespace, *, ipv4: str = "", ipv6: str = "") -> Link:
        """Join two namespaces: first gets host 1, second host 2 of the networks (default 10.199.N.0/24, fd99:N::/64).

        The addresses can be used at once (no duplicate address detection).
        """
        self._links += 1
        number = self._links
        network4 = ipaddress.ip_network(ipv4 or f"10.199.{number}.0/24")
        network6 = ipaddress.ip_network(ipv6 or f"fd99:{number:x}::/64")
        names = (f"veth{number}a", f"veth{number}b")
        _ip(
            *("link", "add", names[0], "netns", first.name, "type", "veth"),
            *("peer", "name", names[1], "netns", second.name),
        )
        ends = []
        for position, (namespace, device) in enumerate(zip((first, second), names, strict=True), start=1):
            address4, address6 = network4[position], network6[position]
            _ip("-n", namespace.name, "address", "add", f"{address4}/{network4.prefixlen}", "dev", device)
            _ip("-n", namespace.name, "address", "add", f"{address6}/{network6.prefixlen}", "dev", device, "nodad")
            _ip("-n", namespace.name, "link", "set", device, "up")
            ends.append(End(namespace, device, str(address4), str(address6)))
        return Link(*ends)

    def route(self, namespace: Namespace, via: str) -> None:
        """Make `via` the default gateway of a namespace (IPv4 or IPv6, after the address)."""
        family = "-6" if ":" in via else "-4"
        _ip("-n", namespace.name, family, "route", "add", "default", "via", via)


def _delete(name: str) -> None:
    if (NETNS_FOLDER / name).exists():
        _ip("netns", "delete", name)


def sweep() -> list[str]:
    """Remove the namespaces that test runs left behind which exist no more; returns their names."""
    swept = []
    for path in NETNS_FOLDER.glob(f"{PREFIX}*-*"):
        match = re.match(rf"{PREFIX}(\d+)-", path.name)
        if match and not Path("/proc", match[1]).exists():
            with contextlib.suppress(RuntimeError):
                _delete(path.name)
                swept.append(path.name)
    return swept


def wait_until(condition: Callable[[], object], what: str, timeout: float = 60.0, pause: float = 0.02) -> None:
    """Wait for a condition instead of sleeping; raises `TimeoutError` that names what did not happen."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(pause)
