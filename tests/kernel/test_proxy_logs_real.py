"""A real HAProxy and a real Squid in TPROXY mode on a gateway: what their logs say against what really went by."""

from __future__ import annotations

import os
import signal
import subprocess
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


@pytest.mark.parametrize("way", ["syslog", "file"])
def test_haproxy(gateway: Gateway, tmp_path: Path, way: str) -> None:
    trace, log = tmp_path / "trace", tmp_path / "log"
    format = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %U %B %ts %fi:%fp"
    options = ["--log-syslog" if way == "syslog" else "--log", log, "--log-format", format]
    if way == "file":
        log.touch()
        code = "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind(sys.argv[1])\n" \
               "f = open(sys.argv[2], 'ab', 0)\nwhile True: f.write(s.recv(65536).rstrip(b'\\n') + b'\\n')"  # fmt: skip
        gateway.host.start("python3", "-c", code, tmp_path / "sock", log)
        wait_until((tmp_path / "sock").exists, "the syslog daemon")
    recorder = gateway.host.start(NETREC, "record", "--source", "haproxy", "-o", trace, "--quiet", *options)
    if way == "syslog":
        wait_until(log.exists, "netrec listens")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(
        f"global\n log {log if way == 'syslog' else tmp_path / 'sock'} len 1024 local0\n maxconn 1000\n"
        f'defaults\n mode tcp\n log global\n log-format "{format}"\n timeout connect 5s\n timeout client 30s\n'
        " timeout server 30s\n"
        "frontend f\n bind :9999 transparent\n default_backend b\n"
        "backend b\n source 0.0.0.0 usesrc clientip\n server s *:0\n"
    )
    divert(gateway, 9999)
    gateway.host.start("haproxy", "-db", "-f", configuration, stderr=subprocess.DEVNULL)
    wait_until(lambda: ":9999" in gateway.host.run("ss", "-Hlnt").stdout, "HAProxy listens")
    done = fetch_all(gateway)

    def everything_logged() -> bool:
        spool = trace / ".spool"
        return spool.exists() and (way == "syslog" or log.read_text().count(" f b/s ") == len(done))

    wait_until(everything_logged, "the log")
    wait_until(lambda: _spooled(trace) > 0, "rows in the spool")
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20) == 0
    table = recorded(trace)
    rows = sorted(
        zip(*(table[name].to_pylist() for name in ("client_port", "client_bytes", "server_bytes")), strict=True)
    )
    assert rows == sorted(done)
    assert set(table["server_address"].to_pylist()) == {gateway.server4}
    assert set(table["server_port"].to_pylist()) == {PORT}
    assert set(table["client_address"].to_pylist()) == {gateway.client4}
    assert set(table["source"].to_pylist()) == {"haproxy"}


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
        f"logformat own {format}\naccess_log stdio:{log} logformat=own\ncache_log {folder}/cache.log\n"
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
