"""Users' eBPF programs, run in the test process: rows as plain dictionaries."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from recorder.source import CaptureContext, SourceHealth
from recorder.sources.program import create


class ProgramRun:
    """Records with one program while the block runs; afterwards `rows` holds every row of its table."""

    def __init__(self, program: str | Path, **settings: Any) -> None:
        given = {"program": (str(program),), "ring_size": 1 << 22} | settings
        self.source = create(CaptureContext("observer", "capture", given))
        self.rows: list[dict[str, Any]] = []
        self.health = SourceHealth()

    def __enter__(self) -> ProgramRun:
        try:
            self.source.start()
        except BaseException:
            self.source.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
            self.health = self.source.health()
        finally:
            self.source.close()

    def stop(self) -> None:
        """End the recording; what it still had to say is among the rows."""
        self._take(self.source.stop())

    def until(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Read until the condition holds; raises `TimeoutError`."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the rows that were waited for did not come")
            self.source.poll()
            self._take(self.source.read())
            time.sleep(0.02)

    def _take(self, batches: Any) -> None:
        for _, batch in batches:
            batch.validate(full=True)
            self.rows.extend(batch.to_pylist())
