"""Where the answer goes: to a reader who has gone, to a full disk, to what is no file."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.namespaces import ROOT

NETREC = ROOT / ".venv" / "bin" / "netrec"
TRACE = ROOT / "sample_traces" / "web-day"
COMMANDS = [
    ["--help"],
    ["sql", "select range from range(100000)", TRACE],
    ["sql", "--format", "parquet", "select range from range(1000)", TRACE],
    ["analyze", "capacity", TRACE, "--format", "json"],
    ["inspect", TRACE],
    ["programs", "list"],
]
CASES = [*((command, True) for command in COMMANDS), (COMMANDS[0], False), (COMMANDS[1], False)]
NAMES = ["help", "sql", "parquet", "analysis", "inspect", "programs", "help-unbuffered", "sql-unbuffered"]


@pytest.mark.parametrize(("command", "buffered"), CASES, ids=NAMES)
def test_a_reader_who_has_gone_ends_it_without_a_word(command: list[str], buffered: bool) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = run(command, nobody, buffered)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(("command", "buffered"), CASES, ids=NAMES)
def test_a_full_disk_is_one_sentence(command: list[str], buffered: bool) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(command, full, buffered)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        b"netrec: cannot write the output (No space left on device): free some space, or write to another disk"
    ]


def run(command: list[str], output: object, buffered: bool) -> subprocess.CompletedProcess[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    if not buffered:
        environment["PYTHONUNBUFFERED"] = "1"
    return subprocess.run([NETREC, *command], stdout=output, stderr=subprocess.PIPE, env=environment, timeout=120)  # type: ignore[call-overload, no-any-return]


def test_an_answer_goes_into_a_pipe_that_has_a_name_and_does_not_replace_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Open for both: nobody waits for the other end, and the answer is small enough for the pipe.
    held = os.open(pipe, os.O_RDWR)
    try:
        subprocess.run([NETREC, "sql", "select 7 as seven", TRACE, "-o", pipe, "--format", "csv"], check=True)
        assert os.read(held, 100).split() == [b"seven", b"7"]
    finally:
        os.close(held)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_an_answer_goes_to_the_file_behind_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real.name)
    subprocess.run([NETREC, "sql", "select 7 as seven", TRACE, "-o", link], check=True)
    assert link.is_symlink()
    assert real.read_text().split() == ["seven", "7"]
    assert len(list(tmp_path.iterdir())) == 2


def test_dev_stdout_is_standard_output() -> None:
    command = [NETREC, "sql", "select 7 as seven", TRACE, "--format", "csv", "-o", "/dev/stdout"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.split() == [b"seven", b"7"]
