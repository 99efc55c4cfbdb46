"""A worker's rows on their way to the recorder: packed, bounded, and never in the way of traffic.

What the pipe does not take stays in memory up to `BACKLOG_LIMIT`; beyond that new records are dropped and counted.
"""

from __future__ import annotations

import json
import os
import struct

from recorder.sources.tproxy import wire

BACKLOG_LIMIT = 8 << 20
TEXTS_LIMIT = 65536


class Journal:
    """Collects records and writes them to `descriptor` (a non-blocking pipe) when asked to `flush`."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.records = bytearray()
        self.lost = 0
        self._backlog = bytearray()
        self._numbers: dict[str, int] = {"": 0}
        self._new: list[bytes] = []

    def number(self, text: str) -> int:
        """The number of a text; a new one is announced before the records that name it."""
        found = self._numbers.get(text)
        if found is None:
            found = len(self._numbers)
            self._numbers[text] = found
            self._new.append(text.encode("utf-8", "backslashreplace"))
        return found

    def flush(self, counters: dict[str, int] | None = None) -> bool:
        """Hand over what has come together; False when the reader has gone."""
        records = self.records
        if records:
            if len(self._backlog) > BACKLOG_LIMIT:
                self.lost += len(records) // wire.RECORD.size
                # Their texts are still announced: later records name them.
            else:
                self._announce()
                self._frame(wire.SESSIONS, len(records) // wire.RECORD.size, records)
            records.clear()
            if len(self._numbers) > TEXTS_LIMIT:
                self._announce()
                self._frame(wire.RESET, 0, b"")
                self._numbers = {"": 0}
        if counters is not None:
            counters["lost"], self.lost = self.lost, 0
            self._frame(wire.COUNTERS, 1, json.dumps(counters).encode())
        backlog = self._backlog
        try:
            while backlog:
                del backlog[: os.write(self.descriptor, backlog[: 1 << 20])]
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def _announce(self) -> None:
        if self._new:
            lengths = struct.pack(f"<{len(self._new)}I", *map(len, self._new))
            self._frame(wire.TEXTS, len(self._new), lengths + b"".join(self._new))
            self._new = []

    def _frame(self, kind: int, count: int, payload: bytes | bytearray) -> None:
        self._backlog += wire.FRAME.pack(kind, count, len(payload))
        self._backlog += payload
