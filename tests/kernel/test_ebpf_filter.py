"""`--filter` in the kernel: the rows are those that the same filter leaves of a recording of everything."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from netrec.filter import Filter, parse
from netrec.filter.evaluate import evaluate
from netrec.trace import tables
from recorder import cgroups
from tests.kernel.test_ebpf_owners import CONTAINER, cgroup
from tests.support import traffic
from tests.support.ebpf import Recording
from tests.support.namespaces import Namespace, Network

pytestmark = pytest.mark.kernel
# What differs between two recordings of the same traffic: their numbering, and when each looked.
_OWN = ("start_time", "end_time", "flow_start_time", "flow_id", "connect_latency_us", "rtt_us", "time")
_CLIENT = """
import socket, sys
open("/proc/self/comm", "w").write("client")
sys.stdin.readline()
for address in ("127.0.0.1", "::1"):
    with socket.create_connection((address, 8080), 10) as client:
        client.sendall(bytes(100))
        client.shutdown(socket.SHUT_WR)
        client.recv(1)
"""


def rows_of(found: list[dict[str, Any]], table: tables.Table, netns: int, given: Filter | None = None) -> Counter[str]:
    """Rows of one namespace that match, without what is a recording's own."""
    inside = [row for row in found if row["netns"] == netns]
    if given is not None and inside:
        batch = pa.Table.from_pylist(inside, schema=table.schema).combine_chunks()
        mask = evaluate(given.expression, batch, cgroup_numbers=cgroups.numbers_below)
        inside = [row for row, one in zip(inside, mask, strict=True) if one]
    return Counter(str({name: value for name, value in row.items() if name not in _OWN}) for row in inside)


def make_traffic(space: Namespace, container: Path) -> None:
    """Both IP versions, TCP (closed, reset, refused, its owner in a container or not) and UDP."""
    with contextlib.ExitStack() as stack:
        with space.entered():
            for address in ("127.0.0.1", "::1"):
                for port in (8080, 9090):
                    stack.enter_context(traffic.Server(address, port))
                    traffic.exchange(address, port, [(100, 2000), (0, 0)])
                    traffic.exchange(address, port, [(100, 20)], reset=True)
                traffic.refused(address, 7070)
                _datagrams(address)
            with socket.socket() as bound:
                bound.bind(("127.0.0.1", 5555))
                bound.connect(("127.0.0.1", 8080))
        process = space.start(sys.executable, "-c", _CLIENT)
        (container / "cgroup.procs").write_text(str(process.pid))
        process.communicate("go\n", timeout=30)


def _datagrams(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((address, 5353))
        client.sendto(bytes(50), (address, 5353))
        _, peer = server.recvfrom(100)
        server.sendto(bytes(70), peer)


SLICE = f"netrec-filter-{os.getpid()}.slice"
BY_ADDRESS = ["src port 5555 or tcp and server port 8080 and ip6 or udp and src net 127.0.0.0/8"]
BY_OWNER = [
    "process client and port 8080 or icmp",
    f"not process client and not container {CONTAINER[:8]}",
    f"cgroup /{SLICE} and uid 0 or ip6 and container {CONTAINER}",
]
NOTHING = "host 192.0.2.1"


def test_the_rows_are_those_of_a_filter_over_everything(network: Network) -> None:
    space = network.namespace()
    # Nothing is to go idle on a busy machine.
    settings: dict[str, Any] = {"protocols": ("tcp", "udp"), "events": True, "idle_timeout": 600.0}
    given = {text: Filter(text, parse(text)) for text in (*BY_ADDRESS, *BY_OWNER, NOTHING)}
    with cgroup(SLICE, f"docker-{CONTAINER}.scope") as container:
        with contextlib.ExitStack() as stack:
            everything = stack.enter_context(Recording(**settings))
            filtered = {text: stack.enter_context(Recording(**settings, filter=one)) for text, one in given.items()}
            make_traffic(space, container)
        for text, one in given.items():
            # What the kernel cannot tell is left to the rows.
            rest = None if text in BY_ADDRESS else one
            for table in (tables.FLOWS, tables.EVENTS):
                found, every = filtered[text].of_table(table.name), everything.of_table(table.name)
                wanted = rows_of(every, table, space.inode, one)
                left = rows_of(found, table, space.inode, rest)
                assert left == wanted, f"{text}: {table.name}: too much {left - wanted}, too little {wanted - left}"
                assert table is tables.EVENTS or bool(wanted) == (text != NOTHING), text
    nothing = filtered[NOTHING]
    assert (nothing.rows, nothing.events) == ([], [])
    assert nothing.health.map_used == nothing.health.events_seen == 0
