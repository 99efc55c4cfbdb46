"""The transparent proxy on a gateway and on a host, with real rules: who sees what, and what the rows say."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from netrec.errors import FilterError
from netrec.filter import Filter
from recorder.source import find
from tests.support import traffic
from tests.support.gateway import NETREC, Gateway, Recording, fetch, seen_by, who_server
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel


@pytest.fixture
def gateway(network: Network) -> Gateway:
    return Gateway(network)


@pytest.mark.parametrize("version", [4, 6])
def test_both_addresses_are_kept_and_the_row_is_exact(gateway: Gateway, version: int) -> None:
    address = gateway.server_address(version)
    with Recording(gateway.host, interface=(gateway.inside,)) as recording:
        with gateway.server.entered():
            server = traffic.Server(address)
        with server:  # until the last session has reached it, long after its client has gone
            with gateway.client.entered():
                done = traffic.exchange(address, server.port, [(100, 2000), (16, 0), (70_000, 1_000_000), (0, 0)])
                done += traffic.exchange(address, server.port, [(50, 60)], reset=True)
            rows = recording.wait_for(len(done))
        rows = recording.stop() or rows
    for expected in done:
        (row,) = [row for row in rows if row["client_port"] == expected.client_port]
        assert (row["client_address"], row["server_address"]) == (expected.client_address, expected.server_address)
        assert row["server_port"] == expected.server_port
        assert (row["client_bytes"], row["server_bytes"]) == (expected.client_bytes, expected.server_bytes)
        assert (row["network_type"], row["role"], row["source"]) == (f"ipv{version}", "none", "tproxy")
    closes = Counter((row["tcp_close"], row["closed_by"]) for row in rows)
    assert closes == {("fin", "client"): 4, ("rst_received", "client"): 1}
    assert gateway.rules() == ""


def test_the_server_sees_the_client_unless_told_not_to(gateway: Gateway) -> None:
    port = who_server(gateway.server, gateway.server4)
    with Recording(gateway.host, interface=(gateway.inside,)) as recording, gateway.client.entered():
        with socket.create_connection((gateway.server4, port), timeout=10) as client:
            client.sendall(b"who")
            assert seen_by(client.recv(100).decode()) == client.getsockname()
        recording.wait_for(1)
    with Recording(gateway.host, interface=(gateway.inside,), no_spoof=True) as recording, gateway.client.entered():
        with socket.create_connection((gateway.server4, port), timeout=10) as client:
            client.sendall(b"who")
            assert seen_by(client.recv(100).decode())[0] == gateway.far.first.ipv4
            own = client.getsockname()
        (row,) = recording.wait_for(1)
        assert (row["client_address"], row["client_port"]) == own


def test_only_what_the_filter_names_is_taken(gateway: Gateway) -> None:
    first, second = who_server(gateway.server, gateway.server4), who_server(gateway.server, gateway.server4)
    expression = f"port {first} and src net {gateway.client4}/32"
    with Recording(gateway.host, interface=(gateway.inside,), filter=Filter.read(expression)) as recording:
        for port in (second, first, second):
            assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
        (row,) = recording.wait_for(1)
        assert row["server_port"] == first
        assert len(recording.stop()) == 1


def test_what_was_open_before_passes_by_and_lives_on(gateway: Gateway) -> None:
    port = who_server(gateway.server, gateway.server4)
    with gateway.client.entered():
        before = socket.create_connection((gateway.server4, port), timeout=10)
    with before:
        before.sendall(b"a")
        before.recv(100)
        with Recording(gateway.host, interface=(gateway.inside,)) as recording:
            for _ in range(3):
                before.sendall(b"b")
                assert seen_by(before.recv(100).decode()) == before.getsockname()
            assert recording.stop() == []
        before.sendall(b"c")
        assert before.recv(100)


def test_the_gateways_own_services_are_reached_as_ever(gateway: Gateway) -> None:
    port = who_server(gateway.host, gateway.near.second.ipv4)
    with Recording(gateway.host, interface=(gateway.inside,)) as recording:
        assert seen_by(fetch(gateway.client, gateway.near.second.ipv4, port))[0] == gateway.client4
        assert recording.stop() == []


def test_nobody_can_dial_the_proxy_itself(gateway: Gateway) -> None:
    """Not from outside (nothing listens there), nor from the gateway (it is turned away): no open proxy, no loop."""
    with Recording(gateway.host, interface=(gateway.inside,), local=True) as recording:
        port = recording.source.plan.port
        for address in (gateway.near.second.ipv4, gateway.near.second.ipv6, gateway.far.first.ipv4):
            assert fetch(gateway.client, address, port) == "ConnectionRefusedError"
        for address in ("127.0.0.1", "::1"):
            assert fetch(gateway.host, address, port) in ("ConnectionResetError", "BrokenPipeError")
        wait_until(lambda: recording.poll() or recording.source.health().map_limit, "counters")
        assert recording.stop() == []


@pytest.mark.parametrize("version", [4, 6])
def test_this_hosts_own_connections(gateway: Gateway, version: int) -> None:
    """--local: the host's programs are proxied, without loops; what it serves and forwards is not touched."""
    address = gateway.server_address(version)
    port = who_server(gateway.server, address)
    own_port = who_server(gateway.host, gateway.near.second.ipv4)
    with Recording(gateway.host, local=True) as recording:
        answer = fetch(gateway.host, address, port)
        assert seen_by(answer)[0] == gateway.far.first.address(version)
        assert seen_by(fetch(gateway.client, gateway.server4, who_server(gateway.server, gateway.server4)))
        assert seen_by(fetch(gateway.client, gateway.near.second.ipv4, own_port))
        assert seen_by(fetch(gateway.host, gateway.near.second.ipv4, own_port))
        rows = recording.wait_for(1)
        rows = recording.stop() or rows
    (row,) = rows
    assert (row["server_address"], row["server_port"], row["role"]) == (address, port, "client")
    assert row["client_address"] == gateway.far.first.address(version)
    assert (row["client_bytes"], row["server_bytes"]) == (4, len(answer))
    assert gateway.rules() == ""


def test_gateway_and_own_traffic_together(gateway: Gateway) -> None:
    port = who_server(gateway.server, gateway.server4)
    with Recording(gateway.host, interface=(gateway.inside,), local=True) as recording:
        assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
        assert seen_by(fetch(gateway.host, gateway.server4, port))[0] == gateway.far.first.ipv4
        rows = recording.wait_for(2)
        rows = recording.stop() or rows
    assert {row["client_address"]: row["role"] for row in rows} == {
        gateway.client4: "none",
        gateway.far.first.ipv4: "client",
    }


def test_a_server_that_refuses(gateway: Gateway) -> None:
    port = 9  # nobody listens there
    with Recording(gateway.host, interface=(gateway.inside,)) as recording:
        assert fetch(gateway.client, gateway.server4, port, 5) in ("ConnectionResetError", "BrokenPipeError")
        (row,) = recording.wait_for(1)
        assert (row["tcp_close"], row["closed_by"], row["server_bytes"]) == ("connect_failed", "server", 0)


def test_a_server_that_falls_silent_is_a_timeout_for_the_client_too(gateway: Gateway) -> None:
    """One that never answers a SYN, and one that vanishes in the middle of a session: the client is told by a reset."""
    gateway.host.sysctl(net__ipv4__tcp_syn_retries=1, net__ipv4__tcp_retries2=1)
    port = who_server(gateway.server, gateway.server4)
    with (
        Recording(gateway.host, interface=(gateway.inside,)) as recording,
        gateway.client.entered(),
        socket.create_connection((gateway.server4, port), timeout=30) as client,
    ):
        client.sendall(b"a")
        client.recv(100)
        drop = f"table ip gone {{ chain i {{ type filter hook input priority 0; tcp dport {port} drop; }}; }}"
        gateway.server.run("nft", drop)
        client.sendall(b"b")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        assert fetch(gateway.client, gateway.server4, port, 30) == "ConnectionResetError"
        # They come worker by worker.
        rows = sorted(recording.wait_for(2), key=lambda row: row["start_time"])
    assert [(row["tcp_close"], row["closed_by"], row["client_bytes"]) for row in rows] == [
        ("timeout", "server", 2),
        ("connect_failed", "server", 4),
    ]
    assert rows[1]["connect_latency_us"] is None


def test_a_long_session_gives_interval_rows_and_a_forced_one(gateway: Gateway) -> None:
    port = who_server(gateway.server, gateway.server4)
    with (
        gateway.client.entered(),
        Recording(gateway.host, interface=(gateway.inside,), active_timeout=0.5, drain_timeout=0.0) as recording,
    ):
        client = socket.create_connection((gateway.server4, port), timeout=10)
        with client:
            sent = 0
            while not any(row["flow_end_reason"] == "active" for row in recording.rows()) or sent < 20:
                client.sendall(b"x" * 10)
                client.recv(100)
                sent += 10
                recording.poll()
                time.sleep(0.02)
            rows = recording.stop()
            with pytest.raises(ConnectionResetError):
                client.recv(100)
    assert rows[-1]["flow_end_reason"] == "forced"
    assert {row["flow_end_reason"] for row in rows[:-1]} == {"active"}
    assert sum(row["client_bytes"] for row in rows) == sent
    assert len({row["flow_id"] for row in rows}) == 1


def test_open_sessions_may_finish_when_the_recording_ends(gateway: Gateway) -> None:
    port = who_server(gateway.server, gateway.server4)
    settings: dict[str, Any] = {"interface": (gateway.inside,), "drain_timeout": 60.0}
    with gateway.client.entered(), Recording(gateway.host, **settings) as recording:
        client = socket.create_connection((gateway.server4, port), timeout=10)
        client.sendall(b"a")
        client.recv(100)
        answers: list[bytes] = []

        def later() -> None:
            time.sleep(0.5)
            client.sendall(b"later")
            answers.append(client.recv(100))
            client.close()

        thread = threading.Thread(target=later)
        thread.start()
        begun = time.monotonic()
        (row,) = recording.stop()
        thread.join()
    assert answers and answers[0]
    assert (row["flow_end_reason"], row["client_bytes"]) == ("end", 6)
    assert time.monotonic() - begun < settings["drain_timeout"] / 2
    assert gateway.rules() == ""


# -- refusals: one sentence, nothing changed


def why_not(gateway: Gateway, **settings: object) -> str:
    before = gateway.rules()
    with gateway.host.entered():
        readiness = find("tproxy").can_run(settings)
    assert not readiness.ready
    assert readiness.fix
    assert "\n" not in readiness.reason
    assert gateway.rules() == before
    return readiness.reason


def test_what_is_in_the_way_is_said_and_nothing_is_changed(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = (gateway.inside,)
    assert "whose traffic" in why_not(gateway, port=None)
    assert "no interface 'nothere'" in why_not(gateway, interface=("nothere",))
    with gateway.host.entered(), socket.create_server(("127.0.0.1", 0)) as taken:
        assert f"port {taken.getsockname()[1]} " in why_not(gateway, interface=inside, port=taken.getsockname()[1])
    gateway.host.sysctl(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
    assert "does not forward" in why_not(gateway, interface=inside)
    gateway.host.sysctl(net__ipv4__ip_forward=1)
    gateway.host.sysctl(net__ipv4__conf__all__rp_filter=1, net__ipv4__conf__all__src_valid_mark=1)
    assert "rp_filter" in why_not(gateway, interface=inside)
    gateway.host.sysctl(net__ipv4__conf__all__src_valid_mark=0)
    gateway.host.run("ip", "rule", "add", "fwmark", "0x40000", "lookup", "55")
    assert "mark 0x40000 is in use" in why_not(gateway, interface=inside, mark=0x40000)
    gateway.host.run("ip", "rule", "del", "fwmark", "0x40000")
    nft = "table inet firewall { chain input { type filter hook input priority filter; policy drop; }; }"
    gateway.host.run("sh", "-c", f"echo '{nft}' | nft -f -")
    assert "chain inet firewall input drops" in why_not(gateway, interface=inside)
    gateway.host.run("nft", "delete", "table", "inet", "firewall")
    nft = "table ip other { chain p { type filter hook prerouting priority -150; tcp dport 1 tproxy to :99; }; }"
    gateway.host.run("sh", "-c", f"echo '{nft}' | nft -f -")
    assert "another transparent proxy" in why_not(gateway, interface=inside)
    gateway.host.run("nft", "delete", "table", "ip", "other")
    monkeypatch.setenv("SSH_CONNECTION", f"{gateway.client4} 50000 {gateway.near.second.ipv4} 22")
    assert "SSH session" in why_not(gateway, local=True)
    with gateway.host.entered():
        assert find("tproxy").can_run({"local": True, "filter": Filter.read(f"not host {gateway.client4}")}).ready
        assert find("tproxy").can_run({"local": True, "force": True}).ready
    gateway.host.run("ip", "address", "flush", "dev", gateway.inside)
    gateway.host.run("ip", "-6", "address", "flush", "dev", gateway.inside)
    assert "no route leads back" in why_not(gateway, interface=inside)


def test_the_ssh_session_is_found_behind_sudo(gateway: Gateway, tmp_path: Path) -> None:
    """sudo starts its command without the variable: that of the shell it came from counts."""
    session = f"{gateway.client4} 50000 {gateway.near.second.ipv4} 22"
    command = f"env -u SSH_CONNECTION {NETREC} record --source tproxy --local --dry-run -o {tmp_path / 'trace'}"

    def dry(ssh: str, options: str = "") -> tuple[int, str]:
        done = gateway.host.run("env", f"SSH_CONNECTION={ssh}", "sh", "-c", f"{command} {options}; exit", check=False)
        return done.returncode, done.stderr

    code, said = dry(session)
    assert code == 2 and f"SSH session ({gateway.client4} to port 22)" in said and "--force" in said
    assert dry(session, f"--filter 'not host {gateway.client4}'")[0] == 0
    assert dry(session, "--force")[0] == 0
    assert dry("192.0.2.1 50000 192.0.2.2 22")[0] == 0  # a session of another network namespace
    assert gateway.rules() == ""


def test_two_netrecs_do_not_share_a_gateway(gateway: Gateway) -> None:
    with Recording(gateway.host, interface=(gateway.inside,)):
        assert "another netrec" in why_not(gateway, interface=(gateway.inside,))


def test_rules_of_others_are_not_touched(gateway: Gateway) -> None:
    nft = (
        "table inet firewall { chain forward { type filter hook forward priority filter; policy accept; "
        "meta mark 0x20000000 accept; }; }"
    )
    gateway.host.run("sh", "-c", f"echo '{nft}' | nft -f -")
    gateway.host.run("ip", "rule", "add", "fwmark", "0x10000000", "lookup", "7801")
    before = [gateway.host.run(*words).stdout for words in (("nft", "list", "ruleset"), ("ip", "rule", "show"))]
    with Recording(gateway.host, interface=(gateway.inside,)) as recording:
        plan = recording.source.plan
        assert not {plan.mark, plan.own_mark} & {0x20000000, 0x10000000}
        assert plan.table != 7801
        recording.stop()
    after = [gateway.host.run(*words).stdout for words in (("nft", "list", "ruleset"), ("ip", "rule", "show"))]
    assert after == before


def test_the_dry_run_shows_every_rule_and_changes_nothing(gateway: Gateway) -> None:
    before = gateway.host.run("nft", "list", "ruleset").stdout
    with gateway.host.entered():
        specification = find("tproxy")
        assert specification.explain is not None
        text = specification.explain({"interface": (gateway.inside,), "filter": Filter.read("port 443")})
    assert gateway.host.run("nft", "list", "ruleset").stdout == before
    assert gateway.rules() == ""
    # What it prints is what a recording does put in place.
    nft = text.split("# routing")[0]
    gateway.host.run("sh", "-c", f"cat <<'E' | sed 's/flags owner//' | nft -f -\n{nft}\nE")
    for line in text.splitlines():
        if line.startswith("ip "):
            gateway.host.run(*line.split())
    assert gateway.rules().count("proto 78") == 4
    for line in text.splitlines():
        if line.startswith("#   "):
            gateway.host.run(*line[4:].split())
    assert gateway.rules() == ""


def test_settings_that_make_no_sense_are_refused(gateway: Gateway) -> None:
    specification = find("tproxy")
    for name, text in (("mark", "3"), ("mark", "x"), ("port", "70000"), ("workers", "0"), ("drain-timeout", "soon")):
        (setting,) = [one for one in specification.settings if one.name == name]
        with pytest.raises(ValueError, match=text):
            setting.parse(text)
    with gateway.host.entered(), pytest.raises(FilterError, match="process"):
        assert specification.explain is not None
        specification.explain({"interface": (gateway.inside,), "filter": Filter.read("process curl")})


def test_ten_thousand_at_once_is_what_it_says(gateway: Gateway, tmp_path: Path) -> None:
    """The limit is enforced by letting the rest pass by, not by making clients wait."""
    port = who_server(gateway.server, gateway.server4)
    settings = {"interface": (gateway.inside,), "max_sessions": 5, "workers": 1}
    with Recording(gateway.host, **settings) as recording, contextlib.ExitStack() as stack, gateway.client.entered():
        for number in range(12):
            client = stack.enter_context(socket.create_connection((gateway.server4, port), timeout=10))
            client.sendall(b"x")
            assert client.recv(100)
            if number == 4:  # full from the next beat on
                wait_until(
                    lambda: recording.poll() or "goto take" not in gateway.host.run("nft", "list", "ruleset").stdout,
                    "full",
                )
        wait_until(lambda: recording.poll() or recording.source.health().map_used == 5, "five are counted")
        counted: list[int] = []

        def all_counted() -> bool:
            recording.poll()
            counted.append(recording.source.health().lost_in_map)
            return sum(counted) == 7

        wait_until(all_counted, "those that passed by are counted")
        stack.close()
        rows = recording.wait_for(5)
        wait_until(lambda: "goto take" in gateway.host.run("nft", "list", "ruleset").stdout, "room again")
        assert len(rows) == 5
