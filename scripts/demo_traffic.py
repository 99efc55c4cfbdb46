"""A little real traffic over loopback for the demo: web requests, a download and a few failed connections.

    python scripts/demo_traffic.py SECONDS

Everything happens in this process, on 127.0.0.1 and ::1, and ends with it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"x" * 20_000
DOWNLOAD = b"x" * 5_000_000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = DOWNLOAD if self.path == "/download" else PAGE
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


def fetch(url: str, pause: float, end: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        with contextlib.suppress(OSError), opener.open(url, timeout=5) as response:
            response.read()
        time.sleep(pause)


def main() -> None:
    end = time.monotonic() + float(sys.argv[1])
    servers: list[tuple[ThreadingHTTPServer, str]] = [(ThreadingHTTPServer(("127.0.0.1", 0), Handler), "127.0.0.1")]
    with contextlib.suppress(OSError):  # a host may have no IPv6
        servers.append((Server6(("::1", 0), Handler), "[::1]"))
    clients = []
    for server, address in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{address}:{server.server_address[1]}"
        clients += [
            threading.Thread(target=fetch, args=(url + path, pause, end))
            for path, pause in (("/", 0.05), ("/download", 1))
        ]
    with socket.socket() as unused:  # bound, but nobody listens: these connections are refused
        unused.bind(("127.0.0.1", 0))
        refused = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        clients.append(threading.Thread(target=fetch, args=(refused, 1, end)))
        for client in clients:
            client.start()
        for client in clients:
            client.join()


if __name__ == "__main__":
    main()
