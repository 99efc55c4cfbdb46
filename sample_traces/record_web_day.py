"""Records the sample trace web-day: a scripted day of a small web shop, in network namespaces, in about a minute.

    make samples          (or: python -m sample_traces.record_web_day [FOLDER])

Needs root, nginx, redis-server, curl and a host that carries no other traffic meanwhile. Beside the trace it
writes `known.json`, what the workload itself counted, which the tests hold against the trace, and a README.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from sample_traces.web_day_workload import HOUR_SECONDS, OUTAGE_HOUR, source_addresses
from tests.support.namespaces import Link, Namespace, Network, end_process, wait_until

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "sample_traces" / "web-day"
WORKLOAD = [sys.executable, "-m", "sample_traces.web_day_workload"]
APPLICATION_PORT = 8000
IMAGE_BYTES, BACKUP_BYTES, BACKUP_RATE = 40_000, 60_000_000, 2_000_000
BACKUP_HOUR = 2

NGINX = """
daemon off; pid {folder}/nginx.pid; error_log stderr crit; worker_processes 1; user www-data;
events {{}}
http {{
  access_log off; server_tokens off; sendfile on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 80; listen [::]:80; root {folder}/files;
    location /api/ {{ proxy_pass http://{application}; }}
  }}
}}
"""

README = """# web-day

The day of a small web shop in a little over a minute: 24 "hours" of {hour:g} s each. Written by
`sample_traces/record_web_day.py` (`make samples`); do not edit.

## What was recorded

Four network namespaces of one host, joined by veth pairs, recorded as a whole by one
`netrec record --host web1 --rotate-interval 1m`, so that both ends of every connection are in the trace (the server's
row is the one marked `duplicate`):

| namespace | address | what runs there |
| --- | --- | --- |
| users | 10.20.1.100 to 10.20.1.119, fd20:1::64 to fd20:1::77 | HTTP requests, one connection each |
| web | 10.20.1.2, fd20:1::2, 10.20.2.1, 10.20.3.2 | nginx on port 80; behind it the application on port 8000 |
| database | 10.20.2.2 | redis-server on port 6379; the application keeps one connection to it |
| backup | 10.20.3.1 | curl, which copies one large file from nginx at {rate:,} bytes per second |

The users are few at night and many in the early afternoon; nginx asks the application for what is
below /api/. The copy begins in hour {backup_hour}. In hour {outage} the
application is down: nginx's connections to it are refused, and its users get status 502.

## What is known

Counted by the workload itself; `known.json` holds the same, and the tests compare it with the trace to the byte.

| what | value |
| --- | --- |
| connections of users | {users[connections]:,} |
| bytes sent by users | {users[client_bytes]:,} |
| bytes sent to users | {users[server_bytes]:,} |
| user with the most bytes | {users[top_user]}, {users[top_user_bytes]:,} bytes |
| connections from nginx to the application that succeeded | {users[application_requests]:,} |
| connections from nginx to the application that were refused (hour {outage}) | {users[application_refused]:,} |
| bytes of the copy, request and reply | {backup[client_bytes]:,} and {backup[server_bytes]:,} |
"""


class Shop:
    """The daemons, each in its own namespace."""

    def __init__(self, network: Network, folder: Path) -> None:
        users, self.web, database, self.backup = map(network.namespace, ("users", "web", "database", "backup"))
        self.users = users
        self.front: Link = network.link(users, self.web, ipv4="10.20.1.0/24", ipv6="fd20:1::/64")
        self.back: Link = network.link(self.web, database, ipv4="10.20.2.0/24", ipv6="fd20:2::/64")
        self.side: Link = network.link(self.backup, self.web, ipv4="10.20.3.0/24", ipv6="fd20:3::/64")
        for version, length in ((4, 24), (6, 64)):
            for address in source_addresses(version):
                extra = ["nodad"] if version == 6 else []
                users.run("ip", "address", "add", f"{address}/{length}", "dev", self.front.first.device, *extra)
        files = folder / "files"
        files.mkdir()
        (files / "index.html").write_text("<h1>The shop</h1>\n" * 100)
        (files / "image.jpg").write_bytes(bytes(IMAGE_BYTES))
        with (files / "backup.tar").open("wb") as file:
            file.truncate(BACKUP_BYTES)
        folder.chmod(0o755)
        database.start(
            *("redis-server", "--bind", self.back.second.ipv4, "--save", "", "--appendonly", "no"),
            *("--protected-mode", "no", "--dir", folder),
            stdout=subprocess.DEVNULL,
        )
        _listening(database, 6379)
        self.start_application()
        configuration = folder / "nginx.conf"
        configuration.write_text(NGINX.format(folder=folder, application=f"{self.back.first.ipv4}:{APPLICATION_PORT}"))
        self.web.start("nginx", "-c", configuration)
        _listening(self.web, 80)

    def start_application(self) -> None:
        self.application = self.web.start(
            *WORKLOAD, "application", self.back.first.ipv4, str(APPLICATION_PORT), self.back.second.ipv4
        )
        assert self.application.stdout is not None
        if self.application.stdout.readline() != "ready\n":
            raise RuntimeError("the application did not start")

    def stop_application(self) -> None:
        end_process(self.application)


def _listening(namespace: Namespace, port: int) -> None:
    wait_until(lambda: f":{port} " in namespace.run("ss", "-Hltn").stdout, f"something listens on port {port}")


def day(shop: Shop) -> dict[str, Any]:
    """Run the workload through its day; what it counted."""
    users = shop.users.start(*WORKLOAD, "users", shop.front.second.ipv4, shop.front.second.ipv6)
    assert users.stdin is not None and users.stdout is not None
    backup: subprocess.Popen[str] | None = None
    for line in users.stdout:
        if not line.startswith("hour "):
            break
        hour = int(line.split()[1])
        if hour == OUTAGE_HOUR:
            shop.stop_application()
        if hour == OUTAGE_HOUR + 1:
            shop.start_application()
        if hour == BACKUP_HOUR:
            backup = shop.backup.start(
                *("curl", "--silent", "--fail", "--output", "/dev/null", "--limit-rate", str(BACKUP_RATE)),
                *(
                    "--write-out",
                    '{"client_bytes": %{size_request}, "headers": %{size_header}, "body": %{size_download}}',
                ),
                f"http://{shop.side.second.ipv4}/backup.tar",
            )
        users.stdin.write("go\n")
        users.stdin.flush()
    else:
        raise RuntimeError("the users did not get to the end of their day")
    assert backup is not None
    copied = json.loads(backup.communicate(timeout=120)[0])
    copy = {"client_bytes": copied["client_bytes"], "server_bytes": copied["headers"] + copied["body"]}
    return {"users": json.loads(line), "backup": copy}


def describe(trace: Path, known: dict[str, Any]) -> None:
    """Write known.json and the README beside the tables."""
    (trace / "known.json").write_text(json.dumps(known, indent=1) + "\n")
    text = README.format(hour=HOUR_SECONDS, rate=BACKUP_RATE, backup_hour=BACKUP_HOUR, outage=OUTAGE_HOUR, **known)
    (trace / "README.md").write_text(text)


def check(trace: Path) -> None:
    """Raise `RuntimeError` unless the trace holds this workload alone, without loss."""
    connection = duckdb.connect()
    files = f"read_parquet('{trace}/%s/**/*.parquet')"
    addresses = connection.execute(
        f"select distinct unnest([client_address, server_address]) from {files % 'flows'}"
    ).fetchall()
    foreign = sorted(address for (address,) in addresses if not address.startswith(("10.20.", "fd20:")))
    if foreign:
        raise RuntimeError(f"other traffic of this host came in ({', '.join(foreign[:5])}): record when it is quiet")
    ((lost,),) = connection.execute(f"select sum(events_lost) from {files % 'health'}").fetchall()
    if lost:
        raise RuntimeError(f"the recorder lost {lost} events")


def record(target: Path) -> dict[str, Any]:
    """The trace, and what is known about it; raises `RuntimeError` when it is not fit to be a sample."""
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="netrec-web-day-") as folder, Network() as network:
        shop = Shop(network, Path(folder))
        # The recorder sees every namespace from anywhere; in here its own addresses are those of the example.
        recorder = subprocess.Popen(
            [
                *("nsenter", f"--net={shop.web.path}", str(Path(sys.executable).with_name("netrec"))),
                *("record", "-o", str(target.relative_to(ROOT) if target.is_relative_to(ROOT) else target)),
                *("--host", "web1", "--rotate-interval", "1m", "--json"),
            ],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            assert recorder.stdout is not None
            if '"elapsed"' not in recorder.stdout.readline():
                raise RuntimeError("the recorder did not start")
            known = day(shop)
            time.sleep(1.0)
        finally:
            code = end_process(recorder, patience=30)
        if code:
            raise RuntimeError(f"netrec record ended with exit {code}")
    describe(target, known)
    check(target)
    return known


if __name__ == "__main__":
    print(json.dumps(record(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else TARGET), indent=1))
