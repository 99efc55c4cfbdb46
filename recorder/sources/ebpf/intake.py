"""The ring's records on their way to rows: in pieces of the processor cache's size, in buffers that are used again.

The ring is emptied into memory at once, whatever is to become of the records: that takes a tenth of making rows. In one
piece a second's records would be spread over fresh pages at every step of their way, and half of the recorder's time
went into the kernel's handing these out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from recorder.bpf.ring import RingBuffer

# So many that a column of theirs (int64) stays below what the allocator takes from the kernel (recorder.memory).
PIECE_RECORDS = 8_000
_SPARE_BUFFERS = 4
# Half a million records. When more come than rows can be made of, the ring must fill, where what is lost is counted.
MOST_PIECES = 64


class Intake:
    """Empties `ring` and gives its records out, oldest first."""

    def __init__(self, ring: RingBuffer) -> None:
        self._ring = ring
        self._size = PIECE_RECORDS * ring.record_bytes
        self._spare: list[np.ndarray] = []
        self._full: deque[np.ndarray] = deque()
        self._filling = np.empty(self._size, np.uint8)
        self._filled = 0

    def drain(self) -> int:
        """Empty the ring into memory, as far as there is room; how many bytes were moved."""
        moved = 0
        while len(self._full) < MOST_PIECES and (got := self._ring.take(self._filling[self._filled :])):
            moved += got
            self._filled += got
            if self._filled < self._size:
                break
            self._full.append(self._filling)
            self._begin()
        return moved

    def pieces(self, *, last: bool = False) -> Iterator[np.ndarray]:
        """Every record that is there by now: arrays of the ring's dtype, each valid until the next is asked for.

        The ring is emptied in between. What comes then is the next call's, unless this is the `last`.
        """
        wanted = len(self._full)
        while self._full and (wanted or last):
            wanted -= 1
            buffer = self._full.popleft()
            yield self._ring.records(buffer)
            self._put_back(buffer)
            self.drain()
        if self._filled and not self._full:
            buffer, filled = self._filling, self._filled
            self._begin()
            yield self._ring.records(buffer[:filled])
            self._put_back(buffer)

    def all(self) -> np.ndarray:
        """Every record at once, as a copy; possibly empty."""
        parts = [*self._full, self._filling[: self._filled]]
        whole = np.concatenate(parts)  # of bytes: structs are copied field by field
        self._full.clear()
        self._filled = 0
        return self._ring.records(whole)

    def _begin(self) -> None:
        self._filling = self._spare.pop() if self._spare else np.empty(self._size, np.uint8)
        self._filled = 0

    def _put_back(self, buffer: np.ndarray) -> None:
        if len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)
