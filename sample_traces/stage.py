"""What a scripted workload plays on: namespaces of its own, programs in them, and a recorder beside.

    def play(stage: Stage) -> None:
        site = stage.site()                         # clients, nginx, an application and a database
        clients = stage.clients(site.clients, site.targets, rate=20)
        with stage.recording("my-sample", home=site.web):
            stage.phase("before", 60)
            clients.change(rate=200)
            stage.phase("flood", 30)
            clients.end()
        stage.known["my-sample"]["clients"] = clients.counts

Everything is gone afterwards, whatever happens. Other things run on the host that records: rows of other networks are
left out of the trace (`sample_traces.own_rows`), and two workloads can be recorded at the same time.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from sample_traces.own_rows import keep_own_rows
from tests.support.namespaces import End, Link, Namespace, Network, end_process, wait_until

ROOT = Path(__file__).resolve().parent.parent
OPTIONS = ("--source", "ebpf,host", "--events", "--host-interval", "2s", "--rotate-interval", "1h")
CLIENTS, FIRST_ADDRESS = 12, 101
SIZES = (200, 2_000, 20_000, 200_000)

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr crit; worker_processes 1; user www-data;
events {{}}
http {{
  access_log off; server_tokens off; sendfile on; keepalive_requests 100000; keepalive_timeout 1h;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 80; listen [::]:80; root {folder}/files;
    listen 443 ssl; ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;
    location /api/ {{ proxy_pass http://{application}; }}
  }}
}}
"""


class Program:
    """One of `sample_traces.programs` at work; `counts` is what it counted, once it has ended."""

    def __init__(self, namespace: Namespace, kind: str, settings: dict[str, Any]) -> None:
        self.process = namespace.start(sys.executable, "-m", "sample_traces.programs", kind, json.dumps(settings))
        self.counts: dict[str, Any] = {}

    def change(self, **settings: Any) -> None:
        """Change its settings from now on."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps(settings) + "\n")
        self.process.stdin.flush()

    def ready(self) -> None:
        """Wait until it says that it is there."""
        assert self.process.stdout
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("a program of the workload did not start")

    def end(self) -> dict[str, Any]:
        """Let it finish what it is at; what it counted."""
        if self.process.poll() is None:
            output, _ = self.process.communicate(json.dumps({"end": True}) + "\n", timeout=120)
            if self.process.returncode:
                raise RuntimeError(f"a program of the workload ended with exit {self.process.returncode}")
            self.counts = json.loads(output) if output.strip() else {}
        return self.counts


@dataclass(frozen=True)
class Site:
    """A small web site: clients - nginx and an application - a database."""

    clients: Namespace
    web: Namespace
    database: Namespace
    front: Link
    back: Link
    sources: tuple[str, ...]
    application: Program

    def url(self, reply: int | str, port: int = 80, version: int = 4) -> str:
        """Where to ask nginx (or, with its port, the application) for so many bytes."""
        address = self.front.second.ipv4 if version == 4 else f"[{self.front.second.ipv6}]"
        return f"http://{address}:{port}/{reply}"


class Stage:
    """A context manager; `number` picks the networks of one workload: 10.<number>.0.0/16, fd<number>::/16."""

    def __init__(self, number: int, output: Path) -> None:
        self.number = number
        self.output = output
        self.known: dict[str, dict[str, Any]] = {}
        self.network = Network()
        self._links = 0
        self._current: dict[str, Any] | None = None
        self._namespaces: list[Namespace] = []
        self._processes: set[int] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="netrec-sample-")

    def __enter__(self) -> Stage:
        self.network.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.network.__exit__(kind, error, trace)
        finally:
            self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """A scratch folder that servers may read."""
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        return folder

    def namespace(self, label: str) -> Namespace:
        """A new namespace."""
        self._namespaces.append(self.network.namespace(label))
        return self._namespaces[-1]

    def link(self, first: Namespace, second: Namespace) -> Link:
        """Join two namespaces: 10.<number>.<link>.1 and .2."""
        self._links += 1
        place = f"{self.number}.{self._links}"
        return self.network.link(
            first, second, ipv4=f"10.{place}.0/24", ipv6=f"fd{self.number:02d}:{self._links:x}::/64"
        )

    def addresses(self, end: End, count: int, version: int = 4) -> tuple[str, ...]:
        """Further addresses of an end of a link, .101 (::65) and on, for so many clients."""
        network = ipaddress.ip_interface(f"{end.address(version)}/{24 if version == 4 else 64}").network
        found = tuple(str(network[FIRST_ADDRESS + number]) for number in range(count))
        extra = ["nodad"] if version == 6 else []
        for address in found:
            place = f"{address}/{network.prefixlen}"
            end.namespace.run("ip", "address", "add", place, "dev", end.device, *extra)
        return found

    def site(self, clients: int = CLIENTS, **application: Any) -> Site:
        """The web site; the options are those of the application's `programs.Service`.

        nginx is on port 80 of `front.second`, the application on port 8000.
        """
        users, web, database = map(self.namespace, ("clients", "web", "database"))
        front, back = self.link(users, web), self.link(web, database)
        self.redis(back.second)
        self.nginx(web, f"{front.second.ipv4}:8000")
        served = self.server(front.second, 8000, database=back.second.ipv4, **application)
        return Site(users, web, database, front, back, self.addresses(front.first, clients), served)

    def nginx(self, namespace: Namespace, application: str = "127.0.0.1:1") -> None:
        """Start nginx on ports 80 and 443 (TLS).

        It serves /<bytes> for each of `SIZES`, and asks the application for /api/<bytes>.
        """
        folder = self.folder / namespace.name
        folder.mkdir()
        (folder / "files").mkdir()
        for size in SIZES:
            (folder / "files" / str(size)).write_bytes(bytes(size))
        certificate = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=shop.example")
        files = ("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"))
        subprocess.run([*certificate, *files], check=True, capture_output=True)
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, application=application))
        namespace.start("nginx", "-c", configuration)
        self.listening(namespace, 80)

    def redis(self, end: End) -> None:
        """Start redis-server on port 6379."""
        end.namespace.start(
            *("redis-server", "--bind", end.ipv4, "--save", "", "--appendonly", "no"),
            *("--protected-mode", "no", "--dir", self.folder),
            stdout=subprocess.DEVNULL,
        )
        self.listening(end.namespace, 6379)

    def server(self, end: End, port: int, **settings: Any) -> Program:
        """Start the HTTP server (`programs.Service`) at an end of a link."""
        program = Program(end.namespace, "server", {"address": end.ipv4, "port": port, **settings})
        program.ready()
        return program

    def resolver(self, end: End) -> Program:
        """Start a name server (`programs.Zone`) at an end of a link."""
        program = Program(end.namespace, "resolver", {"address": end.ipv4})
        program.ready()
        return program

    def office(self, site: Site) -> tuple[End, Namespace]:
        """A client behind a router in front of the site: its end of the access line, and the router."""
        office, router = self.namespace("office"), self.namespace("router")
        access, uplink = self.link(office, router), self.link(router, site.web)
        router.sysctl(net__ipv4__ip_forward=1)
        self.network.route(office, access.second.ipv4)
        self.network.route(router, uplink.second.ipv4)
        self.network.route(site.web, uplink.first.ipv4)
        return access.first, router

    def clients(self, namespace: Namespace, targets: dict[str, str], **settings: Any) -> Program:
        """Start clients (`programs.Load`) that ask the targets, label -> URL."""
        return Program(namespace, "clients", {"targets": targets, **settings})

    def users(self, site: Site, rate: float, **settings: Any) -> Program:
        """Start a site's own clients: `rate` requests a second in all, for its pages or of its application."""
        targets = {"pages": site.url(2000), "api": site.url(2000, 8000)}
        return self.clients(site.clients, targets, rate=rate, **settings)

    def listening(self, namespace: Namespace, port: int) -> None:
        """Wait until something listens on this port."""
        wait_until(lambda: f":{port} " in namespace.run("ss", "-Hltn").stdout, f"something listens on port {port}")

    def drop(self, namespace: Namespace, *rules: str, hook: str = "input") -> None:
        """Put nftables rules in place, each ending in drop, reject or the like; `restore` takes them away."""
        lines = "".join(f"{rule}; " for rule in rules)
        chain = f"chain c {{ type filter hook {hook} priority 0; policy accept; {lines}}}; "
        namespace.run("nft", f"table inet sample {{ {chain}}}")

    def restore(self, namespace: Namespace) -> None:
        """Take away what `drop` put in place."""
        namespace.run("nft", "delete", "table", "inet", "sample")

    @contextmanager
    def recording(self, name: str, home: Namespace, options: Sequence[str] = OPTIONS) -> Iterator[Path]:
        """Record the trace `name` while the block runs; the recorder's gauges are those of the namespace `home`."""
        trace = self.output / name
        shutil.rmtree(trace, ignore_errors=True)
        command = ["record", "-o", trace.name, "--host", "web1", "--json", *options]
        recorder = subprocess.Popen(
            ["nsenter", f"--net={home.path}", str(Path(sys.executable).with_name("netrec")), *command],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.output,
            start_new_session=True,
        )
        self._current = self.known.setdefault(name, {"phases": {}})
        try:
            assert recorder.stdout is not None
            line = recorder.stdout.readline()
            if '"elapsed"' not in line:
                raise RuntimeError(f"the recorder did not start: {line.strip()}")
            # It says every second how it goes on; a pipe that nobody reads is full after some minutes, and it waits.
            threading.Thread(target=recorder.stdout.read, daemon=True).start()
            yield trace
            time.sleep(1.0)
        finally:
            code = end_process(recorder, patience=120)
        if code:
            raise RuntimeError(f"netrec record ended with exit {code}")
        keep_own_rows(trace, self.number, self._processes)

    def phase(self, name: str, seconds: float) -> None:
        """Let the workload go on for so long; its times are noted as those of phase `name`."""
        assert self._current is not None
        begun = _now()
        time.sleep(seconds)
        self._current["phases"][name] = {"since": begun, "until": _now()}
        for namespace in self._namespaces:
            pids = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=True)
            self._processes.update(map(int, pids.stdout.split()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
