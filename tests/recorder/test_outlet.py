"""Progress that nobody reads holds nothing up."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from recorder.outlet import Outlet
from recorder.pipeline import Status
from recorder.progress import summary

PAGE = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe of one page: the descriptor to read from, the stream to write to."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def test_what_there_is_room_for_is_written_at_once(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    outlet = Outlet(stream)
    outlet.offer("one\n")
    outlet.write("two\n")
    assert os.read(reading, PAGE) in (b"one\ntwo\n", b"one\n")


def test_a_full_pipe_keeps_sentences_and_drops_what_is_out_of_date(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    os.write(stream.fileno(), b"x" * PAGE)
    outlet = Outlet(stream)
    outlet.offer("status 1\n")
    outlet.write("sentence 1\n")
    outlet.write("sentence 2\n")
    outlet.finish(0.05)
    assert os.read(reading, 2 * PAGE) == b"x" * PAGE
    outlet.offer("status 2\n")
    outlet.finish()
    assert os.read(reading, PAGE).startswith(b"sentence 1\n")


def test_a_stopped_terminal_is_not_waited_for() -> None:
    terminal, side = pty.openpty()
    try:
        with os.fdopen(side, "w") as stream:
            termios.tcflow(stream.fileno(), termios.TCOOFF)
            outlet = Outlet(stream)
            outlet.write("a sentence\n")
            termios.tcflow(stream.fileno(), termios.TCOON)
            outlet.finish()
            assert os.read(terminal, PAGE) == b"a sentence\r\n"
    finally:
        os.close(terminal)


def test_a_reader_who_has_gone_is_no_error(pipe: tuple[int, TextIO]) -> None:
    reading, stream = pipe
    os.dup2(os.open(os.devnull, os.O_RDONLY), reading)
    outlet = Outlet(stream)
    outlet.write("to nobody\n")
    outlet.finish()


def test_a_recording_ends_in_time_though_nobody_reads(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PAGE)
    os.write(writing, b"x" * PAGE)
    try:
        command = [sys.executable, "-m", "netrec", "record", "--source", "synthetic", "--duration", "1s", "--json"]
        done = subprocess.run(
            [*command, "-o", tmp_path / "trace"], stdout=writing, stderr=writing, timeout=60, check=False
        )
        assert done.returncode == 0
        assert list((tmp_path / "trace").rglob("*.parquet"))
    finally:
        os.close(writing)
        os.close(reading)


def test_the_last_line_says_what_was_recorded() -> None:
    assert "recorded 0 flow rows in" in summary(Status(), "then")
    assert "recorded 9 rows of events, 120 rows of host in" in summary(
        Status(tables={"host": 120, "events": 9}), "then"
    )
    both = Status(rows=5, tables={"flows": 5, "events": 2})
    assert "recorded 5 flow rows, 2 rows of events in" in summary(both, "then")
