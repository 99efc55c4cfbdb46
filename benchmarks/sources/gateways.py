"""One client, one nginx, and between them several gateways at the same time: one for each way to compare.

    client --- gateway "direct"  ---+
           --- gateway "haproxy" ---+--- server (nginx)
           --- gateway "netrec"  ---+

Each way has a server address of its own, so that runs in turns need no restarts; idle proxies cost nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import NETREC, ROOT, PeerMissing, peer
from tests.support.namespaces import Namespace, Network, wait_until

BENCHMARK = False
PORT = 8080
_CLOCK = os.sysconf("SC_CLK_TCK")

NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 19000; }}
worker_rlimit_nofile 20000;
http {{
  log_format bytes '$remote_addr $remote_port $server_addr $request_length $bytes_sent';
  access_log {log};
  keepalive_requests 1000000000; server_tokens off; keepalive_timeout 1h; sendfile on;
  server {{ listen {port} backlog=4096; listen [::]:{port} backlog=4096; root {folder}/www; }}
}}
"""

HAPROXY = """
global
  nbthread {threads}
  maxconn {maximum}
  log {folder}/haproxy.log.socket len 1024 local0
defaults
  mode tcp
  log global
  option tcplog
  option splice-auto
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend all
  bind :9999 transparent
  default_backend there
backend there
  source 0.0.0.0 usesrc {source}
  server there *:0
"""

TPROXY = """
table ip peer {{
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto tcp socket transparent 1 meta mark set 1 accept
    iifname "{device}" tcp dport {port} tproxy to :9999 meta mark set 1 accept
  }}
}}
"""


@dataclass
class Gateway:
    """A way from the client to the server: `address` is the server's on it, `client` the client's.

    `processes` are those that do the proxying.
    """

    name: str
    namespace: Namespace
    inside: str  # device towards the client
    address: str
    client: str
    processes: list[subprocess.Popen[Any]]

    def pids(self) -> list[int]:
        """Of the processes and their descendants."""
        found = [process.pid for process in self.processes]
        for pid in found:
            found += [int(one) for one in _read(f"/proc/{pid}/task/{pid}/children").split()]
        return found

    def cpu(self) -> float:
        """Seconds of CPU so far, of all of them."""
        total = 0
        for pid in self.pids():
            words = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            total += int(words[11]) + int(words[12]) if words else 0
        return total / _CLOCK

    def passed(self) -> int:
        """Sessions that netrec's proxy let pass by so far (0 for the other ways)."""
        if self.name != "netrec":
            return 0
        listed = self.namespace.run("nft", "list", "counter", "inet", "netrec_tproxy", "passed", check=False).stdout
        counted = re.search(r"packets (\d+)", listed)
        return int(counted[1]) if counted else -1

    def memory(self) -> int:
        """Resident bytes, of all of them; shared pages are shared out (PSS)."""
        pss = [re.search(r"^Pss:\s+(\d+)", _read(f"/proc/{pid}/smaps_rollup"), re.MULTILINE) for pid in self.pids()]
        return sum(int(found[1]) * 1024 for found in pss if found)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


class Laboratory:
    """The namespaces, nginx with `files`, and the gateways that are added; everything is gone at the end."""

    def __init__(self, network: Network, folder: Path, log: bool = False) -> None:
        self.network = network
        self.folder = folder
        self.client = network.namespace("client")
        self.server = network.namespace("server")
        self.gateways: dict[str, Gateway] = {}
        for namespace in (self.client, self.server):
            namespace.sysctl(net__ipv4__ip_local_port_range="1024 65535", net__core__somaxconn=4096)
        (folder / "www").mkdir()
        (folder / "www" / "1k").write_bytes(os.urandom(1024))
        (folder / "nginx.conf").write_text(
            NGINX.format(folder=folder, port=PORT, log=f"{folder}/access.log bytes buffer=64k" if log else "off")
        )
        folder.chmod(0o755)
        self.nginx = self.server.start(
            peer("nginx"), "-c", folder / "nginx.conf", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def gateway(self, name: str) -> Gateway:
        """A gateway that just forwards."""
        namespace = self.network.namespace(name)
        namespace.sysctl(net__ipv4__ip_forward=1, net__core__somaxconn=4096)
        near, far = self.network.link(self.client, namespace), self.network.link(namespace, self.server)
        self.client.run("ip", "route", "add", far.second.ipv4 + "/32", "via", near.second.ipv4)
        # Answers to the client's address on this link take the same way back.
        self.server.run("ip", "route", "add", near.first.ipv4 + "/32", "via", far.first.ipv4)
        made = Gateway(name, namespace, near.second.device, far.second.ipv4, near.first.ipv4, [])
        self.gateways[name] = made
        wait_until(lambda: self.fetch(made).returncode == 0, f"nginx answers through {name}")
        return made

    def fetch(self, gateway: Gateway, path: str = "1k") -> subprocess.CompletedProcess[str]:
        return self.client.run("curl", "-sf", "-m", "5", "-o", "/dev/null", self.url(gateway, path), check=False)

    def url(self, gateway: Gateway, path: str = "1k") -> str:
        return f"http://{gateway.address}:{PORT}/{path}"

    def haproxy(self, name: str = "haproxy", source: str = "clientip", threads: int | None = None) -> Gateway:
        """HAProxy, transparent, with splice and tcplog into a socket that a process reads."""
        made = self.gateway(name)
        run = made.namespace.run
        run("ip", "rule", "add", "fwmark", "1", "lookup", "100")
        run("ip", "route", "add", "local", "default", "dev", "lo", "table", "100")
        (self.folder / "peer.nft").write_text(TPROXY.format(device=made.inside, port=PORT))
        run("nft", "-f", self.folder / "peer.nft")
        configuration = self.folder / f"{name}.cfg"
        configuration.write_text(
            HAPROXY.format(threads=threads or os.cpu_count(), maximum=4000, folder=self.folder, source=source)
        )
        made.namespace.start("python3", "-c", _SINK, self.folder / "haproxy.log.socket", stdout=subprocess.DEVNULL)
        wait_until((self.folder / "haproxy.log.socket").exists, "the log socket")
        made.processes.append(
            made.namespace.start(
                peer("haproxy"), "-db", "-f", configuration, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        )
        time.sleep(0.5)
        return made

    def netrec(self, name: str = "netrec", *options: str) -> Gateway:
        """netrec record --source tproxy, into a trace folder of its own."""
        made = self.gateway(name)
        made.processes.append(
            made.namespace.start(
                NETREC, "record", "--source", "tproxy", "--interface", made.inside, "-o", self.folder / name, "--json",
                *options, stderr=(self.folder / f"{name}.err").open("w"), stdout=subprocess.DEVNULL, cwd=ROOT,
            )
        )  # fmt: skip
        wait_until(lambda: "goto take" in made.namespace.run("nft", "list", "ruleset").stdout, "netrec proxies")
        return made

    @contextlib.contextmanager
    def kernel_recorder(self, gateway: Gateway) -> Iterator[None]:
        """netrec record --source ebpf, of the whole machine, while the block runs."""
        process = gateway.namespace.start(
            NETREC, "record", "--source", "ebpf", "-o", self.folder / "ebpf", "--json",
            stderr=subprocess.DEVNULL, cwd=ROOT,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()  # it reports once a second: it records
        threading.Thread(target=process.stdout.read, daemon=True).start()
        gateway.processes[:] = [process]
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)

    def wrk(
        self, gateway: Gateway, seconds: int, connections: int = 50, *, short: bool = False, attempts: int = 4
    ) -> dict[str, float]:
        """wrk with one thread: requests, and per second, errors, p50 and p99 in us, CPU seconds of the proxy."""
        script = self.folder / "report.lua"
        script.write_text(_REPORT)
        headers = ["-H", "Connection: close"] if short else []
        passed = gateway.passed()
        before = gateway.cpu()
        done = self.client.run(
            peer("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", script, *headers,
            self.url(gateway), timeout=seconds + 60,
        )  # fmt: skip
        found = json.loads(done.stdout.strip().splitlines()[-1])
        found["cpu"] = gateway.cpu() - before
        if attempts > 1 and (gateway.passed() != passed or not found["requests"]):
            # A machine so busy that the proxy let sessions pass by, or that nothing came: that is no measurement of it.
            return self.wrk(gateway, seconds, connections, short=short, attempts=attempts - 1)
        found["passed"] = gateway.passed() - passed
        return found

    def download(self, gateway: Gateway, path: str) -> float:
        """One file by curl; bytes per second."""
        done = self.client.run(
            "curl", "-sf", "-o", "/dev/null", "-w", "%{speed_download}", self.url(gateway, path), timeout=120
        )
        return float(done.stdout)


_SINK = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
while True: s.recv(65536)
"""

_REPORT = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"per_second": %f, "requests": %d, "errors": %d, "p50": %d, "p99": %d}\\n',
    summary.requests / summary.duration * 1e6, summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""

__all__ = ["Gateway", "Laboratory", "PeerMissing"]
