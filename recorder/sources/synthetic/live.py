"""The synthetic source while it runs: as many flows as the rate asks for since the last reading."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from netrec.errors import NetrecError
from recorder.source import CaptureContext, SourceHealth
from recorder.sources.synthetic.flows import FlowGenerator, now_us


class SyntheticSource:
    """Rows for the time between two readings, at `synthetic_rate` flows per second, never catching up a fraction
    twice: the total after t seconds is rate * t, rounded down.
    """

    def __init__(self, context: CaptureContext) -> None:
        settings = context.settings
        self._rate: float = settings["synthetic_rate"]
        self._fail_after: int = settings["synthetic_fail_after"]
        self._generator = FlowGenerator(
            settings["synthetic_seed"],
            host=context.host,
            clients=max(1, settings["synthetic_clients"]),
            long_lived=settings["synthetic_long_lived"],
            active_timeout=settings["active_timeout"],
        )
        self._begun = self._read_until = 0
        self._made = 0
        self._rows = self._rows_told = 0

    def start(self) -> None:
        self._begun = self._read_until = now_us()
        self._generator.begin(self._begun)

    def poll(self) -> bool:
        return False

    def read(self) -> Iterable[tuple[str, Any]]:
        until = max(now_us(), self._read_until)  # a clock set back must not give rows that end before they start
        count = int((until - self._begun) / 1e6 * self._rate) - self._made
        batch = self._generator.rows(self._read_until, until, max(count, 0))
        self._made += max(count, 0)
        self._read_until = until
        self._rows += batch.num_rows
        if self._fail_after and self._rows > self._fail_after:
            raise NetrecError(
                f"the synthetic source failed after {self._fail_after} rows", "as --synthetic-fail-after asked"
            )
        return [("flows", batch)] if batch.num_rows else []

    def health(self) -> SourceHealth:
        seen = self._rows - self._rows_told
        self._rows_told = self._rows
        return SourceHealth(events_seen=seen, owners_known=seen)

    def stop(self) -> Iterable[tuple[str, Any]]:
        batches = list(self.read())
        forced = self._generator.stop(self._read_until)
        if forced is not None:
            self._rows += forced.num_rows
            batches.append(("flows", forced))
        return batches

    def close(self) -> None:
        pass
