"""A recorder that is starved does less, says so, and its sums stay right: whatever it costs, on whatever machine."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as dataset
import pytest

import netrec
from tests.support import traffic
from tests.support.namespaces import Network, end_process

pytestmark = pytest.mark.kernel
SIZES = (100, 1000)


@pytest.fixture
def recorders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        end_process(process)


def progress(process: subprocess.Popen[str]) -> queue.SimpleQueue[dict[str, Any]]:
    """The recorder's JSON lines, as they come."""
    lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(json.loads(line))

    threading.Thread(target=read, daemon=True).start()
    return lines


def test_a_starved_recorder_takes_its_steps_and_its_sums_stay_exact(
    network: Network, tmp_path: Path, recorders: list[subprocess.Popen[str]]
) -> None:
    command = [sys.executable, "-m", "netrec", "record", "-o", str(tmp_path / "t"), "--json", "--max-cpu", "0.1%"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    recorders.append(process)
    lines = progress(process)
    assert lines.get(timeout=30)["degraded"] is None
    space = network.namespace()
    done, said = 0, ""
    with space.entered(), traffic.Server("127.0.0.1") as server:
        # Until the step that puts short flows together, and on for a while: the next reading comes 5 s after it.
        while "short flows together" not in said:
            done += len(traffic.exchange("127.0.0.1", server.port, [SIZES] * 20, interval=0.005))
            while not lines.empty():
                said += lines.get().get("message", "")
        done += len(traffic.exchange("127.0.0.1", server.port, [SIZES] * 100))
    assert "1 in" not in said, "the traffic should have ended before sampling begins"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)

    health = dataset.dataset(tmp_path / "t" / "health", format="parquet").to_table().to_pylist()
    steps = [row for row in health if row["kind"] == "degraded"]
    assert "% of a core is over 0.1%: rows every 60 s" in steps[0]["reason"]
    assert steps[1]["reason"].endswith("read every 5 s, short flows together")
    intervals = [row for row in health if row["kind"] == "interval"]
    assert intervals[0]["active_timeout_us"] == 10_000_000
    assert intervals[-1]["active_timeout_us"] == 60_000_000
    assert sum(row["programs_cpu_us"] or 0 for row in intervals) > 0

    trace = netrec.open(tmp_path / "t", filter=f"netns = {space.inode}")
    row = trace.sql("select sum(flows), sum(client_bytes), sum(server_bytes) from flow").fetchall()[0]
    assert row == (done, done * SIZES[0], done * SIZES[1])
    shared = trace.sql("select client_port, flow_duration_us, role from flows where flow_count > 1").fetchall()
    assert {row[2] for row in shared} == {"client", "server"}
    assert all(port is None and duration > 0 for port, duration, _ in shared)
    assert any("the recorder changed how much it does 2 times" in line for line in caveats(trace))


def caveats(trace: Any) -> list[str]:
    from analyze import context

    return context.caveats(trace.context, None)
