"""The programs of the web-day workload that are not Debian's: its users and its application.

    python -m sample_traces.web_day_workload users WEB_IPV4 WEB_IPV6
    python -m sample_traces.web_day_workload application ADDRESS PORT DATABASE

`users` goes through a day in 24 short hours. It prints the number of each hour and waits for a line on standard input
before it begins, so that whoever drives it can change something in between. At the end it prints what it sent and
received as one JSON line. Everything is drawn from one seed: two runs make the same requests.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

HOUR_SECONDS = 3.0
# Requests in each hour of the day: quiet at night, a peak in the early afternoon.
REQUESTS = (8, 6, 5, 4, 4, 6, 12, 20, 32, 40, 44, 46, 50, 54, 56, 54, 48, 44, 40, 36, 30, 24, 18, 12)
# The application is down during this hour.
OUTAGE_HOUR = 15
PATHS = (("/", 0.6), ("/api/orders", 0.3), ("/image.jpg", 0.1))
USERS = 20
IPV6_SHARE = 0.2
ORDER_BYTES = 2000


def source_addresses(version: int) -> list[str]:
    """The users' addresses."""
    return [f"10.20.1.{100 + user}" if version == 4 else f"fd20:1::{100 + user:x}" for user in range(USERS)]


def _request(source: str, target: str, path: str) -> tuple[int, int, int]:
    """One HTTP request over a connection of its own: status, bytes sent, bytes received (all payload)."""
    request = f"GET {path} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: web-day\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((target, 80), timeout=20, source_address=(source, 0)) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return int(received.split(b" ", 2)[1]), len(request), len(received)


def users(targets: dict[int, str]) -> None:
    draw = random.Random(20260302)
    # A few users make most of the requests.
    weights = [1 / (rank + 1) for rank in range(USERS)]
    done: Counter[str] = Counter()
    per_source: Counter[str] = Counter()
    for hour, count in enumerate(REQUESTS):
        print(f"hour {hour}", flush=True)
        sys.stdin.readline()
        begun = time.monotonic()
        for number in range(count):
            version = 6 if draw.random() < IPV6_SHARE else 4
            source = draw.choices(source_addresses(version), weights)[0]
            path = draw.choices([path for path, _ in PATHS], [weight for _, weight in PATHS])[0]
            status, sent, received = _request(source, targets[version], path)
            done["connections"] += 1
            done["client_bytes"] += sent
            done["server_bytes"] += received
            done["application_requests"] += path.startswith("/api") and status == 200
            done["application_refused"] += status == 502
            per_source[source] += sent + received
            time.sleep(max(0.0, begun + (number + 1) * HOUR_SECONDS / count - time.monotonic()))
    top, top_bytes = per_source.most_common(1)[0]
    print(json.dumps({**done, "top_user": top, "top_user_bytes": top_bytes}), flush=True)


class Application(ThreadingHTTPServer):
    """Answers every request with an order from the database, over one connection that it keeps."""

    def __init__(self, address: tuple[str, int], database: str) -> None:
        super().__init__(address, Handler)
        self.database = socket.create_connection((database, 6379))
        self.lock = Lock()
        self.command("SET", "order", "x" * ORDER_BYTES)

    def command(self, *words: str) -> bytes:
        """One command of the Redis protocol; its reply, as it came."""
        text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with self.lock:
            self.database.sendall(text.encode())
            reply = self.database.recv(65536)
            if reply.startswith(b"$"):
                length = int(reply[1 : reply.index(b"\r\n")])
                while len(reply) < len(str(length)) + length + 5:
                    reply += self.database.recv(65536)
        return reply


class Handler(BaseHTTPRequestHandler):
    server: Application

    def do_GET(self) -> None:
        self.server.command("INCR", "orders")
        order = self.server.command("GET", "order").split(b"\r\n", 1)[1].rstrip()
        self.send_response(200)
        self.send_header("Content-Length", str(len(order)))
        self.end_headers()
        self.wfile.write(order)

    def log_message(self, *arguments: object) -> None:
        pass


def application(address: str, port: int, database: str) -> None:
    def stop(number: int, frame: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    with Application((address, port), database) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "users":
        users({4: sys.argv[2], 6: sys.argv[3]})
    else:
        application(sys.argv[2], int(sys.argv[3]), sys.argv[4])
