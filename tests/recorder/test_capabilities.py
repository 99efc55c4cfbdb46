"""Capabilities given up for good, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recorder.capabilities import NAMES, effective
from tests.support.namespaces import ROOT

pytestmark = pytest.mark.kernel


def python(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_are_those_of_the_kernel() -> None:
    """The kernel's last capability is within the list, and bits are where uapi/linux/capability.h has them."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert last <= len(NAMES) - 1
    assert NAMES[12] == "net_admin" and NAMES[21] == "sys_admin" and NAMES[39] == "bpf"
    assert "net_admin" in effective()


def test_only_what_is_kept_works_here_and_in_programs_started_later() -> None:
    program = """
import os, socket, subprocess, sys
from recorder.capabilities import effective, keep_only
keep_only(["net_raw", "net_admin"])
print(*sorted(effective()))
socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
for forbidden in (lambda: os.chroot("/"), lambda: os.chown("/tmp", 1, 1), lambda: os.nice(-1)):
    try:
        forbidden()
    except PermissionError:
        print("refused")
child = "import sys; sys.path.insert(0, '.'); from recorder.capabilities import effective; print(*sorted(effective()))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip())
try:
    keep_only(["sys_admin"])
finally:
    print(*sorted(effective()), ".")
"""
    lines = python(program).splitlines()
    assert lines == ["net_admin net_raw", *["refused"] * 3, "net_admin net_raw", "."]


def test_a_thread_that_is_there_already_is_named() -> None:
    program = """
import pathlib, threading
from recorder.capabilities import effective, keep_only
end, named = threading.Event(), threading.Event()
def wait():
    pathlib.Path("/proc/thread-self/comm").write_text("elder")
    named.set()
    end.wait()
threading.Thread(target=wait).start()
named.wait()
print(keep_only(["net_admin"]))
later = threading.Thread(target=lambda: print(*effective()))
later.start()
later.join()
end.set()
"""
    assert python(program).splitlines() == ["['elder']", "net_admin"]


def test_a_name_that_is_none() -> None:
    assert python(
        "from recorder.capabilities import keep_only\ntry:\n  keep_only(['magic'])\nexcept ValueError as e: print(e)"
    ) == ("no capabilities: magic")
