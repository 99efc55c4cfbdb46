"""What is left of root's power once everything records: in the recorder, its threads, and the processes it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.capabilities import NAMES, effective
from tests.support import traffic
from tests.support.gateway import Gateway, fetch, recorded, seen_by, who_server
from tests.support.gateway import record as gateway_record
from tests.support.namespaces import ROOT, Network, end_process, wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def recorders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        end_process(process)


def record(recorders: list[subprocess.Popen[str]], trace: Path, *options: str) -> subprocess.Popen[str]:
    """Start a recorder and wait until it records; its standard error says what it keeps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "netrec", "--debug", "record", "-o", str(trace), "--json", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    recorders.append(process)
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())
    return process


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children = [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]
    return [pid, *(found for child in children for found in family(child))]


def powers(pid: int) -> dict[str, set[str]]:
    """For every thread of a process and its descendants: what it can use, or could get back."""
    found = {}
    for process in family(pid):
        for thread in Path(f"/proc/{process}/task").iterdir():
            try:
                lines = (thread / "status").read_text().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended
            status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
            bits = 0
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                bits |= int(status[kind], 16)
            found[f"{thread.name} {status['Name']}"] = {name for bit, name in enumerate(NAMES) if bits >> bit & 1}
            if status["NoNewPrivs"].strip() != "1":
                found[f"{thread.name} {status['Name']}"].add("new privileges")
    return found


def ended(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    return said


def test_the_ebpf_source_keeps_what_it_needs_and_records(
    recorders: list[subprocess.Popen[str]], network: Network, tmp_path: Path
) -> None:
    trace, space = tmp_path / "trace", network.namespace("n")
    process = record(recorders, trace, "--keep-size", "1GB")
    with space.entered():
        with traffic.Server() as service:
            traffic.exchange(service.address, service.port, [(100, 20)])
        process.send_signal(signal.SIGHUP)  # both ends of it are closed by now
        wait_until(lambda: list(trace.glob("flows/*/*/*.parquet")), "a finished file")
        with traffic.Server() as service:
            traffic.exchange(service.address, service.port, [(100, 20)])
        left = powers(process.pid)
    assert len(left) > 1  # threads too
    assert set(map(frozenset, left.values())) == {frozenset({"bpf", "dac_read_search"})}, left
    said = ended(process)
    assert "capabilities kept: CAP_BPF (ebpf), CAP_DAC_READ_SEARCH (ebpf)" in said and "older threads" not in said
    sql = f"select sum(flows)::int n from flow where netns = {space.inode}"
    command = [sys.executable, "-m", "netrec", "sql", sql, trace, "--format", "csv"]
    flows = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert flows.stdout.split() == ["n", "2"]


def test_the_gauges_of_this_namespace_need_one(recorders: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    process = record(recorders, tmp_path / "trace", "--source", "synthetic,host")
    left = powers(process.pid)
    assert set(map(frozenset, left.values())) == {frozenset({"net_admin"})}, left
    ended(process)


def test_the_proxys_processes_keep_no_more_than_the_proxy_needs(network: Network, tmp_path: Path) -> None:
    """Recorder, guard and workers; and sessions, also those of a worker that was started after that, go through."""
    gateway = Gateway(network)
    port = who_server(gateway.server, gateway.server4)
    process = gateway_record(gateway.host, tmp_path / "trace", "--interface", gateway.inside, "--workers", "2")
    # A container's root may have less to begin with.
    expected = {frozenset({"net_admin", "net_raw", "net_bind_service", "sys_resource"}) & effective()}
    wait_until(lambda: set(map(frozenset, powers(process.pid).values())) == expected, "only those are left")
    before = family(process.pid)
    assert len(before) == 4
    worker = next(pid for pid in before if b"tproxy.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: set(family(process.pid)) - set(before), "another worker")
    wait_until(lambda: set(map(frozenset, powers(process.pid).values())) == expected, "it has no more")
    for _ in range(20):
        assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert gateway.rules() == "" and recorded(tmp_path / "trace").num_rows == 20


def test_a_trace_in_a_folder_of_another_user(recorders: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    """Root can write there only because it is root: it keeps that, and says so."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)
    trace = home / "trace"
    trace.mkdir(mode=0o750)
    os.chown(trace, 12345, 12345)
    process = record(recorders, trace, "--source", "synthetic", "--rotate-interval", "1s")
    wait_until(lambda: len(list(trace.glob("flows/*/*/*.parquet"))) > 1, "finished files")
    assert set(map(frozenset, powers(process.pid).values())) == {frozenset({"dac_override"})}
    assert "CAP_DAC_OVERRIDE (the trace is in a folder of another user)" in ended(process)
