"""What one reading of the `host` source costs with many TCP sockets, against `ss` counting the same sockets.

    .venv/bin/python -m benchmarks.host_gauges [--sockets 18000] [--repeat 7]     (as root; some seconds)

Prints medians of CPU milliseconds, paired: each repetition measures both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import statistics
import subprocess
import time
from typing import Any

from recorder.source import CaptureContext, find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=18_000)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        for _ in range(arguments.sockets // 2):
            stack.enter_context(socket.create_connection(listener.getsockname()))
            stack.enter_context(listener.accept()[0])
        source: Any = find("host").create(CaptureContext("benchmark", "benchmark", {"host_interval": 1e-6}))
        source.start()
        ours, theirs = [], []
        for _ in range(arguments.repeat):
            before = time.process_time()
            source.poll()
            list(source.read())
            ours.append(time.process_time() - before)
            theirs.append(children_seconds(["ss", "-tanH"]))
    print(f"sockets: {arguments.sockets}, CPUs: {os.cpu_count()}")
    print(f"one reading of source host: {statistics.median(ours) * 1e3:.1f} ms of CPU")
    print(f"ss -tan, for the sockets alone: {statistics.median(theirs) * 1e3:.1f} ms of CPU")


def children_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
