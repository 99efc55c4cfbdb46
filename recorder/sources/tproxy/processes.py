"""The proxy's own processes: started from one of our modules, and ended for certain."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# What the proxy's processes need while they run: rules, routes and transparent sockets; sockets of clients' low ports;
# more pipes than one user may have, to move bytes through.
KEPT = ("net_admin", "net_raw", "net_bind_service", "sys_resource")


def spawn(module: str, given: dict[str, Any], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """One of our own modules as a process, in a session of its own, so that Ctrl-C is the recorder's alone."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"recorder.sources.tproxy.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
    return process


def ended(process: subprocess.Popen[bytes], patience: float) -> int:
    """Its exit code; killed when it does not end in time (seconds)."""
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def stopped(pid: int) -> bool:
    """Whether it was told to stop (SIGSTOP, a debugger); one that is gone was not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"T", b"t")
    except OSError:
        return False
