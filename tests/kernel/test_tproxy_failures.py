"""The proxy ends, is killed or hangs, under load: traffic goes on without it, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from recorder.sources.tproxy import crew
from tests.support.gateway import NETREC, Gateway, Recording, fetch, record, recorded, seen_by, who_server
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def gateway(network: Network) -> Gateway:
    return Gateway(network)


def children(pid: int) -> dict[str, list[int]]:
    """The recorder's own processes, by module: guard and workers."""
    found: dict[str, list[int]] = {"guard": [], "worker": []}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if len(words) > 2:  # neither dead nor just about to start
            found.setdefault(words[2].decode().rpartition(".")[2], []).append(int(child))
    return found


class Load:
    """Short sessions one after the other from two threads, each noted with its time and outcome."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway, self._port = gateway, port
        self.outcomes: list[tuple[float, float, str]] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        with self._gateway.client.entered():
            while not self._ending.is_set():
                begun = time.monotonic()
                try:
                    with socket.create_connection((self._gateway.server4, self._port), timeout=10) as client:
                        client.sendall(b"ping")
                        outcome = "ok" if client.recv(100) else "closed"
                except OSError as problem:
                    outcome = type(problem).__name__
                self.outcomes.append((begun, time.monotonic(), outcome))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.fixture
def port(gateway: Gateway) -> Iterator[int]:
    yield who_server(gateway.server, gateway.server4)


BLOWS = [
    ("recorder", signal.SIGKILL),
    ("recorder", signal.SIGSTOP),
    ("guard", signal.SIGKILL),
    ("guard", signal.SIGSTOP),
]


@pytest.mark.parametrize(("who", "blow"), BLOWS, ids=[f"{who}-{blow.name}" for who, blow in BLOWS])
def test_after_a_blow_traffic_flows_on_and_nothing_is_left(
    gateway: Gateway, trace: Path, port: int, who: str, blow: signal.Signals
) -> None:
    process = record(gateway.host, trace, "--interface", gateway.inside)
    family = children(process.pid)
    everyone = [process.pid, *(pid for pids in family.values() for pid in pids)]
    victim = process.pid if who == "recorder" else family[who][0]
    with Load(gateway, port) as load:
        wait_until(lambda: len(load.outcomes) > 20, "load")
        struck = time.monotonic()
        os.kill(victim, blow)
        wait_until(lambda: gateway.rules() == "", "the rules are gone", pause=0.01)
        since = time.monotonic()
        wait_until(lambda: sum(begun > since for begun, _, _ in list(load.outcomes)) > 20, "sessions after the blow")
    after = [outcome for begun, _, outcome in load.outcomes if begun > since]
    assert set(after) == {"ok"}
    if who == "recorder" and blow is signal.SIGSTOP:
        os.kill(process.pid, signal.SIGCONT)
    assert process.wait(15) == (-signal.SIGKILL if victim == process.pid and blow is signal.SIGKILL else 2)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone), "no process is left")
    # What came before the blow is in the trace, once it is repaired.
    subprocess.run([NETREC, "repair", trace], check=True, capture_output=True)
    before = [outcome for begun, ended, outcome in load.outcomes if ended < struck - 2.5 and outcome == "ok"]
    assert recorded(trace).num_rows >= len(before)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=lambda blow: blow.name)
def test_a_worker_that_dies_or_hangs_under_load_is_replaced(
    gateway: Gateway, trace: Path, port: int, blow: signal.Signals
) -> None:
    """One of two: what it had is lost and counted, everything else goes on, and the recording with it."""
    process = record(gateway.host, trace, "--interface", gateway.inside, "--workers", "2")
    victim, other = children(process.pid)["worker"]
    with Load(gateway, port) as load:
        wait_until(lambda: len(load.outcomes) > 20, "load")
        os.kill(victim, blow)
        wait_until(lambda: set(children(process.pid)["worker"]) - {victim, other}, "another has taken its place")
        since = time.monotonic()
        wait_until(lambda: sum(begun > since for begun, _, _ in list(load.outcomes)) > 20, "sessions after the blow")
        assert Path(f"/proc/{other}").exists()
    assert {outcome for begun, _, outcome in load.outcomes if begun > since} == {"ok"}
    done = Counter(outcome for _, _, outcome in load.outcomes)
    assert done.total() - done["ok"] <= 4  # those that the dead worker had, of two clients
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert gateway.rules() == ""
    health = ds.dataset(sorted(map(str, trace.glob("health/**/*.parquet")))).to_table()
    reasons = " ".join(reason or "" for reason in health["reason"].to_pylist())
    assert "died" in reasons
    assert "ring" not in reasons
    # Every session that went well is a row, was lost with the dead worker, or was let pass by (and counted).
    lost = sum(health["events_lost"].to_pylist())
    assert done["ok"] - lost <= recorded(trace).num_rows <= done.total()


def test_sessions_of_a_dead_worker_are_counted_one_by_one(
    gateway: Gateway, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when workers keep dying, sessions pass by for a while; then they are proxied again."""
    monkeypatch.setattr(crew, "FIRST_PAUSE", 1.0)
    with (
        Recording(gateway.host, interface=(gateway.inside,), workers=2, drain_timeout=0.0) as recording,
        contextlib.ExitStack() as stack,
    ):
        with gateway.client.entered():
            clients = [
                stack.enter_context(socket.create_connection((gateway.server4, port), timeout=10)) for _ in range(24)
            ]
        for client in clients:
            client.sendall(b"x")
            client.recv(100)
        recording.source.health()
        source = recording.source
        os.kill(source.pids[1], signal.SIGKILL)
        lost: list[int] = []

        def told(words: str) -> bool:
            recording.poll()
            said = source.health()
            lost.append(said.lost_in_ring)
            return any(words in note for note in said.notes)

        wait_until(lambda: told("died (killed by signal 9)"), "it is noticed")
        broken = sum(_broken(client) for client in clients)
        assert 0 < broken < 24
        assert sum(lost) == broken
        for _ in range(crew.DEATHS):
            wait_until(lambda: recording.poll() or len(source.pids) == 3, "it is replaced")
            os.kill(source.pids[1], signal.SIGKILL)
            wait_until(lambda: told("died"), "it is noticed")
        before = len(recording.rows())
        rules = gateway.host.run("nft", "list", "chain", "inet", "netrec_tproxy", "choose").stdout
        assert "passed" in rules and "goto take" not in rules
        assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
        wait_until(lambda: told("proxied again"), "the pause is over")
        assert len(recording.rows()) == before
        assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
        recording.wait_for(before + 1)
        assert len(source.pids) == 3
    assert gateway.rules() == ""


def _broken(client: socket.socket) -> bool:
    """Whether the connection has ended; it is asked for an answer."""
    try:
        client.sendall(b"x")
        return not client.recv(100)
    except OSError:
        return True


def test_an_interrupted_recording_takes_everything_away_and_keeps_every_row(
    gateway: Gateway, trace: Path, port: int
) -> None:
    process = record(gateway.host, trace, "--interface", gateway.inside)
    answers = [fetch(gateway.client, gateway.server4, port) for _ in range(5)]
    assert {seen_by(answer)[0] for answer in answers} == {gateway.client4}
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    assert gateway.rules() == ""
    table = recorded(trace)
    assert table.num_rows == 5
    assert sorted(table["client_port"].to_pylist()) == sorted(seen_by(answer)[1] for answer in answers)
    assert set(table["host"].to_pylist()) and set(table["source"].to_pylist()) == {"tproxy"}


def test_sessions_and_gauges_rotate_together(gateway: Gateway, trace: Path, port: int) -> None:
    options = ("--interface", gateway.inside, "--rotate-interval", "1s", "--host-interval", "1s")
    process = record(gateway.host, trace, *options, sources="host,tproxy")
    answers = []

    def rotated() -> bool:
        answers.append(fetch(gateway.client, gateway.server4, port))
        return len(list(trace.glob("flows/**/*.parquet"))) >= 2 and len(list(trace.glob("host/**/*.parquet"))) >= 2

    wait_until(rotated, "two files of each table", timeout=30)
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
    assert sorted(recorded(trace)["client_port"].to_pylist()) == sorted(seen_by(answer)[1] for answer in answers)
    checked = gateway.host.run(NETREC, "verify", str(trace))
    assert checked.returncode == 0, checked.stdout


def test_the_next_recording_starts_where_a_whole_family_was_killed(gateway: Gateway, trace: Path, port: int) -> None:
    """Recorder, guard and workers at once (a cgroup kill): the table goes with them, the next start works."""
    process = record(gateway.host, trace, "--interface", gateway.inside)
    family = children(process.pid)
    for pid in [process.pid, *family["guard"], *family["worker"]]:
        os.kill(pid, signal.SIGKILL)
    process.wait(10)
    wait_until(lambda: gateway.host.run("nft", "list", "tables").stdout == "", "the kernel removes the table")
    assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
    again = record(gateway.host, trace, "--interface", gateway.inside)
    assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
    again.send_signal(signal.SIGINT)
    assert again.wait(15) == 0
    assert gateway.rules() == ""


def test_a_firewall_that_drops_what_is_proxied_is_noticed(gateway: Gateway, trace: Path, port: int) -> None:
    """Not a policy but a rule, which no check finds: the proxy takes itself out, and says why."""
    nft = (
        "table inet firewall { chain input { type filter hook input priority filter; policy accept; "
        f'iifname "{gateway.inside}" tcp dport {port} drop; }}; }}'
    )
    gateway.host.run("sh", "-c", f"echo '{nft}' | nft -f -")
    process = record(gateway.host, trace, "--interface", gateway.inside)
    with Load(gateway, port) as load:
        for _ in range(15):
            threading.Thread(target=fetch, args=(gateway.client, gateway.server4, port, 2.0), daemon=True).start()
        assert process.wait(20) == 2
        done = len(load.outcomes)
        wait_until(lambda: len(load.outcomes) > done + 10, "sessions go directly")
        assert load.outcomes[-1][2] == "ok"
    assert process.stderr is not None
    assert "never arrived" in process.stderr.read()
    gateway.host.run("nft", "delete", "table", "inet", "firewall")
    assert gateway.rules() == ""
