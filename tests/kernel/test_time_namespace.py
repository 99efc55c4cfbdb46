"""The kernel stamps what it sees by its own boot time, whatever that is in the recorder's time namespace."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.dataset as dataset
import pytest

from tests.support import traffic
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("boot", ["28800", "-600"])
def test_flows_have_their_own_times_in_a_time_namespace(network: Network, tmp_path: Path, boot: str) -> None:
    """As after eight hours of suspend that only this namespace knows of, or in a container that was restored."""
    space = network.namespace()
    with space.entered():
        service = traffic.Server("127.0.0.1")
    begun = datetime.now(UTC)
    trace = tmp_path / "trace"
    command = ["unshare", "-T", "--boottime", boot, sys.executable, "-m", "netrec", "record", "-o", str(trace)]
    options = ["--source", "ebpf", "--protocols", "tcp,udp", "--active-timeout", "1s", "--process-details", "--json"]
    said = tmp_path / "said"
    with said.open("w") as output:
        recorder = subprocess.Popen([*command, *options], stdout=output, cwd=ROOT)
    try:
        wait_until(lambda: '"elapsed"' in said.read_text() or recorder.poll() is not None, "it records")
        with service, space.entered():
            traffic.exchange("127.0.0.1", service.port, [(100, 200)] * 3)
            with traffic.held("127.0.0.1", service.port, [(16, 16)] * 2):
                # Two readings: what is open has rows of its own by then.
                readings = said.read_text().count('"elapsed"')
                wait_until(lambda: said.read_text().count('"elapsed"') >= readings + 3, "it reads")
    finally:
        recorder.terminate()
        recorder.wait(timeout=60)
    ended = datetime.now(UTC)
    rows = dataset.dataset(trace / "flows", format="parquet").to_table().to_pylist()
    own = [row for row in rows if row["netns"] == space.inode]
    assert len(own) >= 10  # both ends of five connections
    for row in own:
        assert begun <= row["start_time"] <= row["end_time"] <= ended
        assert begun <= row["flow_start_time"] <= row["end_time"]
    assert {row["client_bytes"] for row in own if row["flow_end_reason"] == "end"} >= {100}
    assert any(row["flow_end_reason"] == "active" for row in own)
    executables = {row["process_executable"] for row in own if row["role"] == "client"}
    assert str(Path(sys.executable).resolve()) in executables
