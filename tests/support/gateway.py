"""A client, a gateway and a server in namespaces, and the tproxy source recording on the gateway."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from netrec.trace import tables
from recorder.source import CaptureContext
from recorder.sources.tproxy.recorder_source import TproxySource, create
from tests.support.namespaces import ROOT, Link, Namespace, Network, wait_until

NETREC = ROOT / ".venv" / "bin" / "netrec"


class Gateway:
    """Three namespaces in a row, forwarding both IP versions.

    `inside` is the gateway's device towards the client, `server4` and `server6` the server's addresses.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.client, self.host, self.server = (network.namespace(name) for name in ("client", "gateway", "server"))
        self.near: Link = network.link(self.client, self.host)
        self.far: Link = network.link(self.host, self.server)
        self.inside = self.near.second.device
        self.server4, self.server6 = self.far.second.ipv4, self.far.second.ipv6
        self.client4, self.client6 = self.near.first.ipv4, self.near.first.ipv6
        for version in (4, 6):
            network.route(self.client, self.near.second.address(version))
            network.route(self.server, self.far.first.address(version))
        self.host.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)

    def server_address(self, version: int) -> str:
        return self.far.second.address(version)

    def rules(self) -> str:
        """Everything of ours that could be left on the gateway: tables, rules, routes."""
        run = self.host.run
        parts = [run("nft", "list", "tables").stdout]
        for family in ("-4", "-6"):
            found = run("ip", family, "rule", "show").stdout.splitlines()
            parts += [line for line in found if "proto 78" in line or "fwmark" in line]
            found = run("ip", family, "route", "show", "table", "all").stdout.splitlines()
            parts += [line for line in found if "proto 78" in line]
        return "\n".join(part for part in parts if part.strip())


class Recording:
    """The source itself, driven as the pipeline drives it, in the gateway's namespace."""

    def __init__(self, host: Namespace, **settings: Any) -> None:
        self._host = host
        with host.entered():
            self.source: TproxySource = create(CaptureContext("gateway", "test", settings))
            self.source.start()
        self._batches: list[pa.RecordBatch] = []

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def poll(self) -> None:
        with self._host.entered():  # where a worker that is replaced must listen
            self.source.poll()
        self._batches += [batch for _, batch in self.source.read()]

    def wait_for(self, rows: int) -> list[dict[str, Any]]:
        """Poll until there are so many rows."""

        def there() -> bool:
            self.poll()
            return sum(batch.num_rows for batch in self._batches) >= rows

        wait_until(there, f"{rows} rows")
        return self.rows()

    def stop(self) -> list[dict[str, Any]]:
        with self._host.entered():
            self._batches += [batch for _, batch in self.source.stop()]
        return self.rows()

    def rows(self) -> list[dict[str, Any]]:
        return self.table().to_pylist()

    def table(self) -> pa.Table:
        return pa.Table.from_batches(self._batches, schema=tables.FLOWS.schema)


def record(host: Namespace, trace: Path, *options: str, sources: str = "tproxy") -> subprocess.Popen[str]:
    """`netrec record` with the tproxy source (the last of `sources`) on a gateway, once it proxies."""
    process = host.start(
        NETREC, "record", "--source", sources, "-o", trace, "--quiet", *options, stderr=subprocess.PIPE
    )

    def proxying() -> bool:
        if process.poll() is not None:
            raise RuntimeError(process.stderr.read() if process.stderr else "ended")
        rules = host.run("nft", "list", "ruleset").stdout
        return "goto take" in rules and "ct mark set" in rules if "--local" in options else "iifname" in rules

    wait_until(proxying, "netrec proxies", pause=0.05)
    return process


def recorded(trace: Path) -> pa.Table:
    """The flows of a trace folder."""
    files = sorted(str(path) for path in trace.glob("flows/**/*.parquet"))
    return ds.dataset(files, format="parquet").to_table() if files else tables.FLOWS.schema.empty_table()


def fetch(client: Namespace, address: str, port: int, timeout: float = 20.0) -> str:
    """One exchange with the echo server below: what came back, or the name of the error."""
    code = (
        "import socket, sys\n"
        "try:\n"
        f" s = socket.create_connection(({address!r}, {port}), timeout={timeout})\n"
        " s.sendall(b'ping'); print(s.recv(100).decode())\n"
        "except OSError as e: print(type(e).__name__)\n"
    )
    return client.run("python3", "-c", code).stdout.strip()


WHO = """
import json, socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(1024)
print(s.getsockname()[1], flush=True)
def one(c, peer):
    try:
        while c.recv(100): c.sendall(json.dumps(peer[:2]).encode())
    except OSError: pass
    c.close()
while True:
    c, peer = s.accept()
    threading.Thread(target=one, args=(c, peer), daemon=True).start()
"""


def who_server(server: Namespace, address: str, port: int = 0) -> int:
    """Start a server that answers each message with the address and port that it sees; returns its port."""
    process = server.start("python3", "-c", WHO, address, port)
    assert process.stdout is not None
    return int(process.stdout.readline())


def seen_by(answer: str) -> tuple[str, int]:
    address, port = json.loads(answer)
    return address, port
