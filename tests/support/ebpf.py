"""The ebpf source, run in the test process: rows as plain dictionaries."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from recorder.source import CaptureContext, SourceHealth
from recorder.sources.ebpf import create


class Recording:
    """Records while the block runs; afterwards `rows` holds every row of the flows table, `events` of the events table.

    TCP only, unless `protocols` says otherwise: the kernel's own packets (neighbour discovery) are flows too.
    The ring and the table of events are large: a test that makes its traffic does not poll meanwhile, and other traffic
    of the host goes on.
    """

    def __init__(self, **settings: Any) -> None:
        room = {"ring_size": 1 << 26, "max_events": 1 << 17}
        self.source = create(CaptureContext("observer", "capture", room | {"protocols": ("tcp",)} | settings))
        self.rows: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.health = SourceHealth()

    def __enter__(self) -> Recording:
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
            self.read()
            self.health = self.source.health()
            self._take(self.source.stop())
        finally:
            self.source.close()

    def read(self) -> None:
        """What the pipeline does once a second."""
        self._take(self.source.read())

    def run(self, seconds: float) -> None:
        """Poll and read for so long."""
        self.until(lambda: False, seconds, fail=False)

    def until(self, condition: Callable[[], object], timeout: float = 60.0, *, fail: bool = True) -> None:
        """Poll and read until the condition holds; raises `TimeoutError` when it does not in time and `fail`."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                if fail:
                    raise TimeoutError(f"the rows that were waited for did not come: {self._come()}")
                return
            self.source.poll()
            self.read()
            time.sleep(0.05)

    def of_table(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table."""
        return {"flows": self.rows, "events": self.events}[table]

    def of(self, netns: int, **equal: Any) -> list[dict[str, Any]]:
        """The rows of one network namespace whose columns equal the given values."""
        return [
            row
            for row in self.rows
            if row["netns"] == netns and all(row[name] == value for name, value in equal.items())
        ]

    def events_of(self, netns: int, kind: str) -> list[dict[str, Any]]:
        """The events of one network namespace and kind."""
        return [row for row in self.events if row["netns"] == netns and row["kind"] == kind]

    def _come(self) -> str:
        """What there is instead, and what was lost."""
        events = [(row["netns"], row["kind"], row["reason"], row["server_port"], row["count"]) for row in self.events]
        return f"{len(self.rows)} flows, events {events[-50:]}, {self.source.health()}"

    def _take(self, batches: Any) -> None:
        for table, batch in batches:
            batch.validate(full=True)
            self.of_table(table).extend(batch.to_pylist())
