"""`netrec record --dns`: a client resolves a name and connects; the flow has the name, the events tell how it went."""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pyarrow.dataset as dataset
import pytest

from tests.support import traffic
from tests.support.name_server import name_server, resolving
from tests.support.namespaces import Network
from tests.support.recorder import Recorders

pytestmark = pytest.mark.kernel

# Looks a name up and connects to the port; or only looks it up.
CLIENT = """
import socket, sys, time
for word in sys.argv[1:]:
    name, _, port = word.partition(":")
    try:
        found = socket.getaddrinfo(name, port or 80, type=socket.SOCK_STREAM)
    except OSError:
        continue
    if port:
        with socket.socket(found[0][0]) as connection:
            connection.connect(found[0][4])
            connection.send(bytes(16))
"""


def finished(process: subprocess.Popen[str], trace: Path, table: str, netns: int) -> list[dict[str, Any]]:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    rows = dataset.dataset(trace / table, format="parquet").to_table().to_pylist()
    return [row for row in rows if row["netns"] == netns]


def analyze(trace: Path, *words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "netrec", "analyze", *words, str(trace), "--format", "ndjson"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("resolver", ["127.0.0.53", "::1"])
def test_a_flow_has_the_name_that_was_looked_up(
    recorders: Recorders, network: Network, tmp_path: Path, resolver: str
) -> None:
    space = network.namespace()
    trace = tmp_path / "trace"
    addresses = {("web.example", "A"): ["127.0.0.7"], ("web.example", "AAAA"): []}
    process = recorders.record(trace, "--dns", "--protocols", "tcp,udp")
    with name_server(space, resolver, addresses), space.entered(), traffic.Server("127.0.0.7") as service:
        before = traffic.connect("127.0.0.7", service.port)  # nobody has asked yet
        before.send(bytes(16))
        silent = (sys.executable, "-c", CLIENT, "silent.example")
        options = "timeout:1 attempts:1"
        gone = space.start(*resolving(tmp_path / "other.conf", resolver, *silent, options=options))
        words = [f"web.example:{service.port}", "missing.example", "broken.example", "big.example"]
        space.run(*resolving(tmp_path / "resolv.conf", resolver, sys.executable, "-c", CLIENT, *words))
        gone.wait(20)
        before.close()
        time.sleep(5.2)  # what is recorded is that no answer came for five seconds: there is nothing to wait for
        flows = finished(process, trace, "flows", space.inode)
    named = [row for row in flows if row["server_port"] == service.port and row["server_name"]]
    assert named and {row["server_name"] for row in named} == {"web.example"}
    assert {(row["server_name_source"], row["client_bytes"], row["role"]) for row in named} == {
        ("dns", 16, "client"),
        ("dns", 16, "server"),
    }
    nameless = [row for row in flows if row["server_port"] == service.port and not row["server_name"]]
    assert len(nameless) == 2, "both ends of the connection that was made before anybody asked"
    events = finished(process, trace, "events", space.inode)
    found = {(row["name"], row["question_type"], row["kind"], row["reason"], row["transport"]) for row in events}
    # The first truncated answer makes glibc ask for both over TCP; the other may come before the socket is closed.
    found.discard(("big.example", "A", "dns_query", "truncated", "udp"))
    found.discard(("big.example", "AAAA", "dns_query", "truncated", "udp"))
    assert found == {
        *(("web.example", kind, "dns_query", None, "udp") for kind in ("A", "AAAA")),
        *(("big.example", kind, "dns_query", None, "tcp") for kind in ("A", "AAAA")),
        *(("missing.example", kind, "dns_failure", "NXDOMAIN", "udp") for kind in ("A", "AAAA")),
        *(("broken.example", kind, "dns_failure", "SERVFAIL", "udp") for kind in ("A", "AAAA")),
        *(("silent.example", kind, "dns_failure", "timeout", "udp") for kind in ("A", "AAAA")),
    }
    for row in events:
        assert (row["server_address"], row["server_port"], row["role"]) == (resolver, 53, "client")
        assert row["process_name"].startswith("python") and row["process_source"] in ("send", "connect")
        assert (row["duration_us"] is None) == (row["reason"] == "timeout")
        assert row["duration_us"] is None or 0 < row["duration_us"] < 5_000_000
    summary = {row["name"]: row for row in analyze(trace, "dns")}
    assert summary["missing.example"]["failures"] == summary["missing.example"]["queries"] >= 2
    assert (summary["silent.example"]["reason"], summary["web.example"]["failures"]) == ("timeout", 0)
    assert summary["web.example"]["latency_p50"] > 0


def test_the_name_that_the_process_itself_asked_for_counts(
    recorders: Recorders, network: Network, tmp_path: Path
) -> None:
    space = network.namespace()
    trace = tmp_path / "trace"
    # Two names of one address, as a content network has them.
    addresses = {
        (f"{name}.example", kind): ["127.0.0.8"] if kind == "A" else [] for name in "ab" for kind in ("A", "AAAA")
    }
    process = recorders.record(trace, "--dns")
    waits = CLIENT.replace("    if port:", "    print(flush=True); input()\n    if port:")
    with name_server(space, "127.0.0.1", addresses), space.entered(), traffic.Server("127.0.0.8") as service:
        clients = []
        for name in "ab":
            words = (sys.executable, "-c", waits, f"{name}.example:{service.port}")
            client = space.start(*resolving(tmp_path / f"{name}.conf", "127.0.0.1", *words))
            assert client.stdout and client.stdout.readline() == "\n"
            clients.append(client)
        for client in clients:  # both have asked: the last answer was b's
            client.communicate("\n", timeout=20)
        with traffic.connect("127.0.0.8", service.port) as other:  # asked for nothing: the last answer in its namespace
            other.send(bytes(16))
        flows = finished(process, trace, "flows", space.inode)
    ours = {
        row["process_pid"]: row["server_name"]
        for row in flows
        if row["server_port"] == service.port and row["role"] == "client"
    }
    assert [ours.pop(client.pid) for client in clients] == ["a.example", "b.example"]
    assert set(ours.values()) == {"b.example"}


def test_what_nobody_asked_for_and_what_is_no_dns_teach_nothing(
    recorders: Recorders, network: Network, tmp_path: Path
) -> None:
    space = network.namespace()
    trace = tmp_path / "trace"
    process = recorders.record(trace, "--dns")
    query = dns.message.make_query("bank.example", "A")
    answer = dns.message.make_response(query)
    answer.answer.append(dns.rrset.from_text("bank.example.", 300, "IN", "A", "127.0.0.9"))
    loop = query.to_wire()[:12] + b"\xc0\x0c" + struct.pack("!HH", 1, 1)
    with space.entered(), traffic.Server("127.0.0.9") as service:
        server, client = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with server, client:
            server.bind(("127.0.0.1", 53))
            client.bind(("127.0.0.1", 0))
            for payload in (
                answer.to_wire(),
                b"",
                b"\0" * 11,
                loop,
                b"\xff" * 1500,
                answer.to_wire()[:20],
                bytes(20000),
            ):
                server.sendto(payload, client.getsockname())
                client.sendto(payload, server.getsockname())
        with traffic.connect("127.0.0.9", service.port) as connection:
            connection.send(bytes(16))
        flows = finished(process, trace, "flows", space.inode)
    assert [row["server_name"] for row in flows if row["server_port"] == service.port] == [None, None]
    assert not any(row["server_name"] for row in flows)
    health = dataset.dataset(trace / "health", format="parquet").to_table().to_pylist()
    assert health and sum(row["events_lost"] for row in health) == 0
