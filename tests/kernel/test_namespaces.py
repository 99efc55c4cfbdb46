"""The tests' own tools: namespaces that go away, traffic whose bytes are known."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import traffic
from tests.support.namespaces import NETNS_FOLDER, PREFIX, Link, Network, end_process, sweep, wait_until

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("version", [4, 6])
def test_exact_bytes_between_namespaces(link: Link, version: int) -> None:
    address = link.second.address(version)
    with link.second.namespace.entered():
        server = traffic.Server(address)
    with server:
        process = link.first.namespace.start(
            *(sys.executable, "-m", "tests.support.traffic", "client", "--address", address),
            *("--port", str(server.port), "--sizes", "100:2000,16:0,0:0,70000:300000"),
        )
        output, _ = process.communicate(timeout=30)
    rows = [json.loads(line) for line in output.splitlines()]
    assert [(row["client_bytes"], row["server_bytes"]) for row in rows] == [
        (100, 2000),
        (16, 0),
        (0, 0),
        (70000, 300000),
    ]
    assert {row["client_address"] for row in rows} == {link.first.address(version)}
    assert process.returncode == 0


def test_held_reset_refused_and_upload(link: Link) -> None:
    with link.second.namespace.entered():
        server = traffic.Server(link.second.ipv4)
    with server, link.first.namespace.entered():
        with traffic.held(server.address, server.port, [(1000, 1000)] * 3) as connections:
            assert len({connection.client_port for connection in connections}) == 3
        assert traffic.exchange(server.address, server.port, [(20, 20)], reset=True)[0].server_bytes == 20
        sent = traffic.upload(server.address, server.port, 0.2, rate=1e6)
        assert 65536 <= sent.client_bytes <= 1_000_000
    with link.first.namespace.entered():
        assert [attempt.error for attempt in traffic.refused(server.address, server.port, 2)] == [
            "ConnectionRefusedError",
            "ConnectionRefusedError",
        ]


def test_everything_is_gone_after_a_failure() -> None:
    with pytest.raises(ZeroDivisionError), Network() as network:
        namespace = network.namespace()
        process = namespace.start("sleep", "600")
        raise ZeroDivisionError
    assert not namespace.path.exists()
    assert process.returncode == -signal.SIGTERM


def test_a_process_that_ignores_sigterm_is_ended(network: Network) -> None:
    namespace = network.namespace()
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
    )
    process = namespace.start(sys.executable, "-c", program)
    assert process.stdout is not None
    process.stdout.readline()

    assert end_process(process, patience=0.2) == -signal.SIGKILL


def test_what_a_killed_run_left_is_swept() -> None:
    program = (
        "import time\nfrom tests.support.namespaces import Network\nnetwork = Network()\n"
        "print(network.namespace().name, flush=True)\ntime.sleep(600)"
    )
    left = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert left.stdout is not None
        name = left.stdout.readline().strip()
        assert name.startswith(f"{PREFIX}{left.pid}-")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(left.pid, signal.SIGKILL)
        left.communicate()
    wait_until(lambda: not Path("/proc", str(left.pid)).exists(), "the killed process is reaped")
    # Another run's sweep may have come first.
    sweep()
    assert not (NETNS_FOLDER / name).exists()
