"""`netrec record` in the background, as a user runs it; ended with the test whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support.namespaces import end_process


class Recorders:
    """The recorders that a test has started (fixture `recorders`)."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []
        self._launched: dict[int, float] = {}

    def record(self, folder: Path, *options: str) -> subprocess.Popen[str]:
        """Start a recorder and wait until it records."""
        launched = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "netrec", "record", "-o", str(folder), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        self._launched[process.pid] = launched
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())
        return process

    def last_read(self, process: subprocess.Popen[str]) -> float:
        """Read the next thing that a recorder says (it does every second); a time (monotonic) that is not after that
        of the reading of its sources before it.

        It says how long it has recorded: since when is not known, but not since before it was launched.
        """
        assert process.stdout is not None
        said: dict[str, Any] = json.loads(process.stdout.readline())
        return self._launched[process.pid] + said.get("elapsed", 0.0)

    def end(self) -> None:
        """End those that still run."""
        for process in self._started:
            end_process(process)
