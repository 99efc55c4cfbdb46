"""A real HAProxy and a real Squid in TPROXY mode on a gateway: what their logs say against what really went by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.gateway import NETREC, Gateway, recorded
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel

PORT = 8080
SIZES = (0, 1, 1000, 70_000, 3_000_000)


@pytest.fixture
def gateway(network: Network, tmp_path: Path) -> Gateway:
    made = Gateway(network)
    (tmp_path / "www").mkdir()
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    for size in SIZES:
        (tmp_path / "www" / str(size)).write_bytes(os.urandom(size))
    server = made.server.start(
        "python3", "-m", "http.server", "-b", made.server4, "-d", tmp_path / "www", str(PORT),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: server.poll() is None and f":{PORT}" in made.server.run("ss", "-Hlnt").stdout, "the server")
    return made


def divert(gateway: Gateway, port: int) -> None:
    """What HAProxy's and Squid's manuals ask for."""
    run = gateway.host.run
    run("ip", "rule", "add", "fwmark", "1", "lookup", "100")
    run("ip", "route", "add", "local", "default", "dev", "lo", "table", "100")
    nft = (
        "table ip peer { chain p { type filter hook prerouting priority mangle; policy accept; "
        "meta l4proto tcp socket transparent 1 meta mark set 1 accept; "
        f'iifname "{gateway.inside}" tcp dport {PORT} tproxy to :{port} meta mark set 1 accept; }}; }}'
    )
    run("sh", "-c", f"echo '{nft}' | nft -f -")


def fetch_all(gateway: Gateway) -> list[tuple[int, int, int]]:
    """Every size once, with curl: client port, request bytes, response bytes (heads included)."""
    done = []
    for size in SIZES:
        out = gateway.client.run(
            "curl", "-sf", "-o", "/dev/null", "-w", "%{local_port} %{size_request} %{size_header} %{size_download}",
            f"http://{gateway.server4}:{PORT}/{size}?secret=1",
        ).stdout.split()  # fmt: skip
        assert int(out[3]) == size
        done.append((int(out[0]), int(out[1]), int(out[2]) + int(out[3])))
    return done


FORMAT = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %U %B %ts %fi:%fp"


def start_haproxy(gateway: Gateway, folder: Path, log: object, option: str = f'log-format "{FORMAT}"') -> None:
    """HAProxy, transparent on the gateway, logging to a syslog target (`log`) in the format that `option` chooses."""
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        f"global\n log {log} len 1024 local0\n maxconn 1000\n"
        f"defaults\n mode {'http' if 'http' in option else 'tcp'}\n log global\n {option}\n timeout connect 5s\n"
        " timeout client 30s\n timeout server 30s\n"
        "frontend f\n bind :9999 transparent\n default_backend b\n"
        "backend b\n source 0.0.0.0 usesrc clientip\n server s *:0\n"
    )
    divert(gateway, 9999)
    gateway.host.start("haproxy", "-db", "-f", configuration, stderr=subprocess.DEVNULL)
    wait_until(lambda: ":9999" in gateway.host.run("ss", "-Hlnt").stdout, "HAProxy listens")


def start_syslog_daemon(gateway: Gateway, socket: Path, log: Path) -> None:
    """What comes by a Unix socket is a line of a file."""
    log.touch()
    code = "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])\n" \
           "f = open(sys.argv[2], 'ab', 0)\nwhile True: f.write(s.recv(65536).rstrip(b'\\n') + b'\\n')"  # fmt: skip
    gateway.host.start("python3", "-c", code, socket, log)
    wait_until(socket.exists, "the syslog daemon")


def recorded_sessions(trace: Path) -> list[tuple[int, int, int]]:
    table = recorded(trace)
    columns = (table[name].to_pylist() for name in ("client_port", "client_bytes", "server_bytes"))
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("way", ["udp", "unix", "file"])
def test_haproxy(gateway: Gateway, tmp_path: Path, way: str) -> None:
    trace, log = tmp_path / "trace", tmp_path / "log"
    if way == "file":
        start_syslog_daemon(gateway, tmp_path / "sock", log)
    option, where, target = {
        "udp": ("--log-syslog", "udp://127.0.0.1:5514", "127.0.0.1:5514"),
        "unix": ("--log-syslog", log, log),
        "file": ("--log", log, tmp_path / "sock"),
    }[way]
    recorder = gateway.host.start(
        NETREC, "record", "--source", "haproxy", "-o", trace, "--quiet", option, where, "--log-format", FORMAT
    )
    if way == "udp":
        wait_until(lambda: ":5514" in gateway.host.run("ss", "-Hlnu").stdout, "netrec listens")
    wait_until(lambda: way == "udp" or log.exists(), "netrec listens")
    start_haproxy(gateway, tmp_path, target)
    done = fetch_all(gateway)

    def everything_logged() -> bool:
        return way != "file" or log.read_text().count(" f b/s ") == len(done)

    wait_until(everything_logged, "the log")
    wait_until(lambda: _spooled(trace) > 0, "rows in the spool")
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20) == 0
    table = recorded(trace)
    assert recorded_sessions(trace) == sorted(done)
    assert set(table["server_address"].to_pylist()) == {gateway.server4}
    assert set(table["server_port"].to_pylist()) == {PORT}
    assert set(table["client_address"].to_pylist()) == {gateway.client4}
    assert set(table["source"].to_pylist()) == {"haproxy"}


@pytest.mark.parametrize("option", ["tcplog", "httplog", "httpslog"])
def test_haproxys_own_formats_without_naming_them(gateway: Gateway, tmp_path: Path, option: str) -> None:
    trace, log = tmp_path / "trace", tmp_path / "haproxy.log"
    start_syslog_daemon(gateway, tmp_path / "sock", log)
    start_haproxy(gateway, tmp_path, tmp_path / "sock", f"option {option}")
    done = fetch_all(gateway)
    wait_until(lambda: log.read_text().count(" f b/s ") == len(done), "the log")
    gateway.host.run(NETREC, "record", "--source", "haproxy", "-o", trace, "--quiet", "--log", log, "--log-once")
    rows = sorted(recorded(trace).to_pylist(), key=lambda row: row["client_port"])
    assert [row["client_port"] for row in rows] == [port for port, _, _ in sorted(done)]
    for row, (_, _, response) in zip(rows, sorted(done), strict=True):
        # In HTTP mode %B leaves out what HAProxy itself adds to the head.
        assert row["server_bytes"] == response or (option != "tcplog" and 0 < response - row["server_bytes"] < 100)
    assert {row["client_address"] for row in rows} == {gateway.client4}
    if option != "tcplog":
        assert {(row["http_method"], row["http_status"]) for row in rows} == {("GET", 200)}
        assert {row["http_path"] for row in rows} == {f"/{size}" for size in SIZES}
    rejected = [line for file in trace.glob("rejected/*") for line in file.read_text().splitlines()]
    assert not [line for line in rejected if " f b/s " in line]


def test_sessions_that_only_the_log_has_are_counted(gateway: Gateway, tmp_path: Path) -> None:
    """With the kernel's rows beside it: what HAProxy logged before the recording began has no match there."""
    trace, log = tmp_path / "trace", tmp_path / "haproxy.log"
    start_syslog_daemon(gateway, tmp_path / "sock", log)
    start_haproxy(gateway, tmp_path, tmp_path / "sock")
    before = fetch_all(gateway)
    wait_until(lambda: log.read_text().count(" f b/s ") == len(before), "the log")
    recorder = gateway.host.start(
        NETREC, "record", "--source", "ebpf,haproxy", "-o", trace, "--json", "--protocols", "tcp", "--filter",
        f"port {PORT}", "--log", log, "--log-format", FORMAT,
    )  # fmt: skip
    assert recorder.stdout is not None
    assert recorder.stdout.readline()  # it records
    during = fetch_all(gateway)
    wait_until(lambda: log.read_text().count(" f b/s ") == len(before + during), "the log")
    recorder.send_signal(signal.SIGINT)
    recorder.communicate(timeout=60)
    assert recorder.returncode == 0
    said = gateway.host.run(NETREC, "analyze", "sessions", trace, "--format", "ndjson", "-n", "0").stdout
    rows = [json.loads(line) for line in said.splitlines()]
    found = {(int(row["client"].rpartition(":")[2]), row["kernel"]) for row in rows}
    assert found == {(one[0], "none") for one in before} | {(one[0], "both") for one in during}
    assert {row["unmatched"] for row in rows} == {len(before)}


def test_doctor_finds_a_real_haproxy(gateway: Gateway, tmp_path: Path) -> None:
    """By its process and the log of its Debian package, which here is in a mount namespace of its own."""
    start_haproxy(gateway, tmp_path, "127.0.0.1:5514")
    gateway.host.run("nft", "delete", "table", "ip", "peer")
    gateway.host.sysctl(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
    doctor = f"mount -t tmpfs none /var/log && touch /var/log/haproxy.log && {NETREC} doctor --json"
    said = json.loads(gateway.host.run("unshare", "-m", "sh", "-c", doctor).stdout)["recommendation"]
    assert said["source"] == "haproxy"
    assert said["command"] == "netrec record --source haproxy --log /var/log/haproxy.log -o trace"


def _spooled(trace: Path) -> int:
    return sum(path.stat().st_size for path in trace.glob(".spool/*/flows-*"))


def test_squid(gateway: Gateway, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = tmp_path / "squid"
    folder.mkdir()
    folder.chmod(0o777)
    log = folder / "access.log"
    format = "%ts.%03tu %6tr %>a:%>p %Ss/%03>Hs %>st %<st %rm %ru %[un %Sh/%<a:%<p %mt"
    (tmp_path / "squid.conf").write_text(
        f"http_port 3128\nhttp_port 3129 tproxy\nhttp_access allow all\ncache deny all\n"
        f"logformat own {format}\naccess_log stdio:{log} logformat=own\n"
        f"access_log stdio:{folder}/native.log squid\ncache_log {folder}/cache.log\n"
        f"pid_filename {folder}/squid.pid\ncache_store_log none\nshutdown_lifetime 0 seconds\n"
        "visible_hostname gateway\npinger_enable off\nbuffered_logs off\n"
    )
    recorder = gateway.host.start(
        NETREC, "record", "--source", "squid", "-o", trace, "--quiet", "--log", log, "--log-format", format
    )
    divert(gateway, 3129)
    gateway.host.start(
        "squid", "-N", "-f", tmp_path / "squid.conf", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: ":3129" in gateway.host.run("ss", "-Hlnt").stdout, "Squid listens")
    done = fetch_all(gateway)
    wait_until(lambda: log.exists() and log.read_text().count("\n") >= len(done), "the log")
    wait_until(lambda: _spooled(trace) > 0, "rows in the spool")
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20) == 0
    rows = sorted(recorded(trace).to_pylist(), key=lambda row: row["client_port"])
    assert [(row["client_port"], row["client_bytes"], row["server_bytes"]) for row in rows] == sorted(done)
    for row in rows:
        assert (row["client_address"], row["server_address"], row["http_status"]) == (
            gateway.client4, gateway.server4, 200,
        )  # fmt: skip
        assert row["http_method"] == "GET"
        assert row["http_path"] in {f"/{size}" for size in SIZES}
        assert row["server_name"] == gateway.server4
    # Its native format has neither ports nor the bytes that the client sent.
    native = tmp_path / "native"
    once = ("--log", folder / "native.log", "--log-once")
    gateway.host.run(NETREC, "record", "--source", "squid", "-o", native, "--quiet", *once)
    names = ("server_bytes", "http_path", "http_method", "http_status", "client_address", "server_address")
    assert Counter(tuple(row[name] for name in names) for row in recorded(native).to_pylist()) == Counter(
        tuple(row[name] for name in names) for row in rows
    )
