"""Both sources in one capture: one line per session with what the kernel and the proxy know, each byte once."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pyarrow.compute as pc
import pytest

from tests.support.gateway import NETREC, Gateway, fetch, record, recorded, who_server
from tests.support.namespaces import Network

pytestmark = pytest.mark.kernel


@pytest.fixture
def gateway(network: Network) -> Gateway:
    return Gateway(network)


def sessions(trace: Path) -> list[dict]:
    done = subprocess.run(
        [NETREC, "analyze", "sessions", trace, "--format", "ndjson"], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("option", ["interface", "local"])
def test_one_row_for_a_session_and_each_byte_once(gateway: Gateway, tmp_path: Path, option: str) -> None:
    trace = tmp_path / "trace"
    where = ["--interface", gateway.inside] if option == "interface" else ["--local"]
    who = gateway.client if option == "interface" else gateway.host
    port = who_server(gateway.server, gateway.server4)
    # The server is on this machine too: the filter keeps other traffic out, the namespace tells the sockets apart.
    process = record(
        gateway.host, trace, *where, "--filter", f"port {port}", "--protocols", "tcp", sources="ebpf,tproxy"
    )
    answers = [fetch(who, gateway.server4, port) for _ in range(4)]
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    found = sessions(trace)
    assert len(found) == 4
    for row in found:
        assert row["unmatched"] == 0
        assert row["kernel"] == "both"
        assert row["client_bytes"] == 4
        assert row["client_rtt"] > 0
        assert row["server_rtt"] > 0
        assert row["process"] == (None if option == "interface" else "python3")
    table = recorded(trace)
    inside = table.filter(
        pc.or_kleene(pc.equal(table["source"], "tproxy"), pc.equal(table["netns"], gateway.host.inode))
    )
    counted = inside.filter(pc.invert(inside["duplicate"]))
    assert counted.num_rows == 4
    assert pc.sum(counted["client_bytes"]).as_py() == 16
    assert pc.sum(counted["server_bytes"]).as_py() == sum(map(len, answers))
