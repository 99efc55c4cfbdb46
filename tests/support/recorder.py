"""`netrec record` in the background, as a user runs it; ended with the test whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.namespaces import end_process


class Recorders:
    """The recorders that a test has started (fixture `recorders`)."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def record(self, folder: Path, *options: str) -> subprocess.Popen[str]:
        """Start a recorder and wait until it records."""
        process = subprocess.Popen(
            [sys.executable, "-m", "netrec", "record", "-o", str(folder), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())
        return process

    def end(self) -> None:
        """End those that still run."""
        for process in self._started:
            end_process(process)
