"""Executables and hashes of command lines: right, bounded in what they say, and nothing of the line itself."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netrec.errors import UsageError
from recorder.process_details import DIGITS, NOTHING, Details, ProcessDetails, read_key

KEY = b"k" * 32


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def name_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/comm").read_bytes().strip()


def test_a_process_that_runs_and_one_that_was_met_before() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        details = ProcessDetails(KEY)
        found = details.of(process.pid, b"sleep", now())
        while found.command_hash is None:  # it is another program until exec(), and has no arguments at first
            found = details.of(process.pid, b"sleep", now())
        process.kill()
    assert found.executable == str(Path("/bin/sleep").resolve())
    assert found.command_hash == hmac.new(KEY, b"sleep\x00600\x00", hashlib.sha256).hexdigest()[:DIGITS]
    assert details.of(process.pid, b"sleep", now()) == found
    assert ProcessDetails(KEY).of(process.pid, b"sleep", now()) == NOTHING


def test_another_process_with_that_number_is_not_meant() -> None:
    mine, name = os.getpid(), name_of(os.getpid())
    details = ProcessDetails(KEY)
    assert details.of(mine, b"other", now()) == NOTHING
    long_before = 1
    assert details.of(mine, name, long_before) == NOTHING
    assert details.of(mine, name, now()).executable == str(Path(sys.executable).resolve())


def proc(folder: Path, pid: int, began: int, command: bytes) -> None:
    """A process as /proc shows it, begun at so many ticks."""
    (folder / str(pid)).mkdir(exist_ok=True)
    (folder / str(pid) / "stat").write_bytes(b"%d (a) b) S %s %d 0 0" % (pid, b"0 " * 17 + b"0", began))
    (folder / str(pid) / "cmdline").write_bytes(command)


def test_a_number_that_is_given_again(tmp_path: Path) -> None:
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    details = ProcessDetails(KEY, tmp_path)
    proc(tmp_path, 7, 100, b"first\0")
    first = details.of(7, b"a) b", 150 * tick)
    assert first.command_hash and first.executable is None
    proc(tmp_path, 7, 200, b"second\0")
    assert details.of(7, b"a) b", 160 * tick) == first  # what happened while the first still had it
    second = details.of(7, b"a) b", 250 * tick)
    assert second.command_hash and second != first


def test_what_was_read_in_the_middle_of_exec_is_read_again(tmp_path: Path) -> None:
    details = ProcessDetails(KEY, tmp_path)
    proc(tmp_path, 7, 100, b"")
    (tmp_path / "7" / "exe").symlink_to("/bin/program")
    began = 100 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert details.of(7, b"a) b", began) == Details("/bin/program", None)
    proc(tmp_path, 7, 100, b"program\0")
    assert details.of(7, b"a) b", began).command_hash


def test_without_a_key_two_captures_hash_differently() -> None:
    mine, name = os.getpid(), name_of(os.getpid())
    one, other = (ProcessDetails().of(mine, name, now()) for _ in range(2))
    assert one.executable == other.executable and one.command_hash != other.command_hash


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(file)
    file.write_bytes(b"short\n")
    file.chmod(0o600)
    with pytest.raises(UsageError, match="holds 5 bytes"):
        read_key(file)
    file.write_bytes(b"x" * 40 + b"\n")
    assert read_key(file) == b"x" * 40
    file.chmod(0o640)
    with pytest.raises(UsageError, match="by others"):
        read_key(file)
