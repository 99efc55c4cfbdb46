"""`--process-details` in a whole recording: right for every user's processes, and no argument in any file."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

import netrec
from recorder.process_details import ProcessDetails
from tests.support import traffic
from tests.support.namespaces import Network
from tests.support.recorder import Recorders

pytestmark = pytest.mark.kernel
SECRET = "hunter2-of-the-database"
PYTHON = "/usr/bin/python3"
CLIENT = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); print(flush=True); input()"


def test_executables_and_hashes_but_no_argument(network: Network, recorders: Recorders, tmp_path: Path) -> None:
    space, trace, key = network.namespace(), tmp_path / "trace", tmp_path / "key"
    key.write_text("a key of this test, of some length")
    key.chmod(0o600)
    with space.entered():
        server = traffic.Server("127.0.0.1")
    recorder = recorders.record(trace, "--process-details", "--process-key", str(key), "--active-timeout", "1s")
    with server:
        clients = [
            space.start("setpriv", "--reuid=65534", "--clear-groups", PYTHON, "-c", CLIENT, str(server.port), argument)
            for argument in (f"--password={SECRET}", f"--password={SECRET}", "--password=another")
        ]
        for client in clients:
            assert client.stdout is not None
            client.stdout.readline()
        expected = {client.pid: _hash(client.pid, key.read_bytes()) for client in clients}
        connected = time.monotonic()
        while (
            recorders.last_read(recorder) < connected + 2
        ):  # it looks at what is open, and not just begun, every second
            continue
        for client in clients:
            client.communicate("end\n", timeout=30)
    recorder.send_signal(signal.SIGTERM)
    _, said = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, said

    rows = netrec.open(trace).sql(
        f"""select distinct process_pid, process_executable, process_command_hash from flows
        where server_port = {server.port} and role = 'client'"""
    )
    found = {pid: (executable, digest) for pid, executable, digest in rows.fetchall()}
    executable = str(Path(PYTHON).resolve())
    assert found == {pid: (executable, digest) for pid, digest in expected.items()}
    assert len(set(expected.values())) == 2
    files = [path for path in trace.rglob("*") if path.is_file()]
    assert files and not [path for path in files if SECRET.encode() in path.read_bytes()]


def _hash(pid: int, key: bytes) -> str | None:
    name = Path(f"/proc/{pid}/comm").read_bytes().strip()
    return ProcessDetails(key).of(pid, name, 1 << 62).command_hash
