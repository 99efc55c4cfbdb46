"""A BPF ring buffer, mapped: records of one size are read in bulk as a structured array, others one by one.

Each record is preceded by the kernel's 8-byte header (length with a busy and a discard bit, page offset); records of
one size have one stride. And a BPF array, mapped (`mapped_array`).
"""

from __future__ import annotations

import mmap

import numpy as np

_BUSY, _DISCARD = np.uint32(1 << 31), np.uint32(1 << 30)


class _MappedRing:
    """Consumer of the ring buffer `descriptor` of `size` bytes (a power of two).

    Exactly one consumer may exist. Attributes: `peak`, the highest fill in bytes met since it was last reset.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        page = mmap.PAGESIZE
        self.size, self.peak = size, 0
        self._consumer_page = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._data = mmap.mmap(descriptor, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_page, np.uint64, 1)
        self._producer = np.frombuffer(self._data, np.uint64, 1)
        # The kernel could map the data twice in a row, so that nothing wraps; mapped once, it is resident only once.
        self._bytes = np.frombuffer(self._data, np.uint8, size, page)

    def _waiting(self) -> np.ndarray:
        """All that the kernel has put there, complete or not, in order; to be copied before it is consumed."""
        at = int(self._consumer[0])
        fill = int(self._producer[0]) - at
        self.peak = max(self.peak, fill)
        start = at % self.size
        copy = self._bytes[start : start + fill]
        return copy if len(copy) == fill else np.concatenate([copy, self._bytes[: fill - len(copy)]])

    def _consume(self, size: int) -> None:
        """Give so many bytes back to the kernel."""
        self._consumer[0] = int(self._consumer[0]) + size

    def close(self) -> None:
        """Unmap; the views are dropped first, or Python would refuse."""
        del self._consumer, self._producer, self._bytes
        self._consumer_page.close()
        self._data.close()


class RingBuffer(_MappedRing):
    """Of `record` structs, all of one size."""

    def __init__(self, descriptor: int, size: int, record: np.dtype) -> None:
        super().__init__(descriptor, size)
        padded = (record.itemsize + 7) // 8 * 8
        self._stride = np.dtype(
            {
                "names": ["length", "page", "record"],
                "formats": [np.uint32, np.uint32, record],
                "offsets": [0, 4, 8],
                "itemsize": 8 + padded,
            }
        )

    def drain(self) -> np.ndarray:
        """Everything that is complete, as a copy: array of the record's dtype, possibly empty."""
        return self.records(self.drain_raw())

    def drain_raw(self) -> np.ndarray:
        """The same as bytes, for `records`: bytes are copied and joined at once, structs field by field."""
        waiting = self._waiting()
        length = waiting.view(self._stride)["length"]
        busy = length & _BUSY != 0
        if busy.any():
            waiting = waiting[: int(busy.argmax()) * self._stride.itemsize]
        batch = waiting.copy()
        self._consume(len(batch))
        return batch

    def records(self, raw: np.ndarray) -> np.ndarray:
        """What was drained, less what was discarded: array of the record's dtype, where possible a view of `raw`."""
        view = raw.view(self._stride)
        kept = view["length"] & _DISCARD == 0
        return view["record"] if kept.all() else view["record"][kept]


class RecordRing(_MappedRing):
    """Of records of different sizes."""

    def drain(self) -> list[bytes]:
        """Every record up to the first that is not complete, as a copy."""
        waiting = self._waiting().tobytes()
        found = []
        at = 0
        while at < len(waiting):
            length = int.from_bytes(waiting[at : at + 4], "little")
            if length & int(_BUSY):
                break
            size = length & ~int(_DISCARD)
            if size == length:
                found.append(waiting[at + 8 : at + 8 + size])
            at += 8 + (size + 7) // 8 * 8
        self._consume(at)
        return found


def mapped_array(descriptor: int, value_type: np.dtype, entries: int) -> np.ndarray:
    """The values of a BPF array with BPF_F_MMAPABLE, shape (entries,): what the programs read and write too.

    The dtype's size is that of the map's values, a multiple of 8. Unmapped when nothing refers to it any more.
    """
    page, size = mmap.PAGESIZE, value_type.itemsize * entries
    whole = (size + page - 1) // page * page
    return np.frombuffer(
        mmap.mmap(descriptor, whole, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE), value_type, entries
    )
