"""What one reading of the host's gauges costs with many TCP sockets, beside `ss` listing the same sockets.

Each round measures both; `ss` lists the sockets only, the source reads links, queues, ports, memory and CPU as well.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

from benchmarks.harness import Options, Report, measure, median, peer, spread
from recorder.source import CaptureContext, find

SOCKETS = 18_000
ROUNDS = 7


def run(options: Options) -> Report:
    sockets = options.size(SOCKETS, 200)
    listing = [peer("ss"), "-tanH"]
    ours: list[float] = []
    theirs: list[float] = []
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        for _ in range(sockets // 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
            stack.enter_context(listener.accept()[0])
        source: Any = find("host").create(CaptureContext("benchmark", "benchmark", {"host_interval": 1e-6}))
        source.start()
        stack.callback(source.close)
        for _ in range(options.size(ROUNDS, 2)):
            before = time.process_time()
            source.poll()
            list(source.read())
            ours.append((time.process_time() - before) * 1e3)
            theirs.append(measure(listing).cpu * 1e3)
    report = Report([f"with {sockets:,} sockets", "CPU ms, median", "lowest..highest"])
    report.rows = [
        ["one reading of the source host", median(ours), spread(ours)],
        ["ss -tan, whole process", median(theirs), spread(theirs)],
    ]
    return report
