"""`netrec record` with the ebpf source, as a user runs it: rows on disk, and nothing left in the kernel."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as dataset
import pytest

from tests.support import traffic
from tests.support.bpftool import bpftool
from tests.support.namespaces import Network, wait_until
from tests.support.recorder import Recorders

pytestmark = pytest.mark.kernel


def held(pid: int) -> set[tuple[str, int]]:
    """(kind, id) of every BPF program, map and link that a process holds a descriptor of."""
    found = set()
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:  # a file that it had open for a moment
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name in ("prog_id", "map_id", "link_id"):
                found.add((name.removesuffix("_id"), int(value)))
    return found


def loaded() -> set[tuple[str, int]]:
    """(kind, id) of everything of BPF in this kernel."""
    return {(kind, one["id"]) for kind in ("prog", "map", "link") for one in bpftool(kind, "list")}


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def flows(folder: Path, netns: int) -> list[dict[str, Any]]:
    table = dataset.dataset(folder / "flows", format="parquet").to_table()
    return [row for row in table.to_pylist() if row["netns"] == netns]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind(recorders: Recorders, tmp_path: Path, number: int) -> None:
    process = recorders.record(tmp_path / "trace", "--protocols", "tcp,udp", "--events", "--dns")
    ours = held(process.pid)
    assert {kind for kind, _ in ours} == {"prog", "map", "link"} and len(ours) >= 20
    assert ours <= loaded()
    assert children(process.pid) == [], "the compiler's process goes once it has handed over"
    process.send_signal(number)
    process.wait(30)
    assert process.returncode == (-9 if number == signal.SIGKILL else 0)
    wait_until(lambda: not ours & loaded(), "programs, maps and links are gone")


def test_what_was_sent_is_what_the_files_say(recorders: Recorders, tmp_path: Path, network: Network) -> None:
    space = network.namespace()
    process = recorders.record(tmp_path / "trace", "--rotate-interval", "1m")
    with space.entered():
        service = traffic.Server("127.0.0.1")
        with service:
            done = traffic.exchange("127.0.0.1", service.port, [(1000, 1000)] * 23)
            held = traffic.connect("127.0.0.1", service.port)
            traffic.talk(held, 500, 600)
            process.send_signal(signal.SIGINT)
            process.wait(30)
            held.close()
    rows = flows(tmp_path / "trace", space.inode)
    ended = [row for row in rows if row["flow_end_reason"] == "end" and not row["duplicate"]]
    assert len(ended) == len(done) == 23
    assert {(row["client_bytes"], row["server_bytes"]) for row in ended} == {(1000, 1000)}
    assert {row["client_port"] for row in ended} == {one.client_port for one in done}
    rest = [row for row in rows if row["flow_end_reason"] != "end" and not row["duplicate"]]
    assert rest[-1]["flow_end_reason"] == "forced"
    assert (sum(row["client_bytes"] for row in rest), sum(row["server_bytes"] for row in rest)) == (500, 600)
    assert sum(row["duplicate"] for row in rows) == len(rows) / 2


def test_a_killed_recorder_loses_nothing_that_it_has_told_of(
    recorders: Recorders, tmp_path: Path, network: Network
) -> None:
    """It says every second how many rows it has written. What comes after that may be lost, but has no holes."""
    space = network.namespace()
    process = recorders.record(tmp_path / "trace", "--filter", "port 7070")
    told, enough = 0, threading.Event()

    def watch() -> None:
        nonlocal told
        try:
            assert process.stdout is not None
            while told < 600:
                told = json.loads(process.stdout.readline()).get("rows", told)
            time.sleep(0.4)  # it is at work on others
        finally:
            enough.set()

    with space.entered(), traffic.Server("127.0.0.1", 7070):
        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        size = 100  # each connection is told by its size
        while not enough.is_set():
            with traffic.connect("127.0.0.1", 7070) as client:
                traffic.talk(client, size, 0)
                client.shutdown(socket.SHUT_WR)
                assert not client.recv(1)  # the server has closed too: the flow has ended
            size += 1
        os.kill(process.pid, signal.SIGKILL)
        watching.join()
    process.wait(30)
    repaired = subprocess.run(
        [sys.executable, "-m", "netrec", "repair", str(tmp_path / "trace")], capture_output=True, text=True, timeout=60
    )
    assert repaired.returncode == 0, repaired.stderr
    rows = flows(tmp_path / "trace", space.inode)
    assert len(rows) >= told >= 600
    sizes = sorted(row["client_bytes"] for row in rows if not row["duplicate"])
    assert sizes == list(range(100, 100 + len(sizes)))
