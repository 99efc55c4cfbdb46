"""The progress line: only on a terminal, only when it takes long, and gone afterwards."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from analyze import progress

# A statement of so many seconds, or until somebody asks how far it is.
SLOW = (
    "import sys, threading\n"
    "from analyze import progress\n"
    "class Connection:\n"
    "    asked = threading.Event()\n"
    "    def query_progress(self): self.asked.set(); return 42.0\n"
    "with progress.shown(Connection()): Connection.asked.wait(float(sys.argv[1]))\n"
)


def on_a_terminal(seconds: float) -> bytes:
    master, slave = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", SLOW, str(seconds)], stderr=slave, check=True, timeout=60)
        os.set_blocking(master, False)
        try:
            return os.read(master, 1 << 16)
        except BlockingIOError:
            return b""
    finally:
        os.close(master)
        os.close(slave)


def test_a_long_statement_shows_how_far_it_is_and_cleans_up() -> None:
    shown = on_a_terminal(50)
    assert b"42%" in shown
    assert shown.endswith(b"\r\x1b[K")


def test_a_short_one_shows_nothing() -> None:
    assert on_a_terminal(0) == b""


def test_nothing_in_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW, "1.5"], stderr=subprocess.PIPE, check=True, timeout=60)
    assert done.stderr == b""


def test_the_bar() -> None:
    assert progress.line(50, ascii_only=True) == "reading " + "#" * 15 + "." * 15 + "  50%"
    assert progress.line(-1, ascii_only=True).endswith("   0%")
