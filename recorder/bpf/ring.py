"""A BPF ring buffer of records of one size, read in bulk.

The buffer is mapped and viewed as a structured array: no call a record. Each record is preceded by the kernel's
8-byte header (length with a busy and a discard bit, page offset); records of one size have one stride.
"""

from __future__ import annotations

import mmap

import numpy as np

_BUSY, _DISCARD = np.uint32(1 << 31), np.uint32(1 << 30)


class RingBuffer:
    """Consumer of the ring buffer `descriptor` of `size` bytes (a power of two) that holds `record` structs.

    Exactly one consumer may exist. Attributes: `peak`, the highest fill in bytes met since it was last reset.
    """

    def __init__(self, descriptor: int, size: int, record: np.dtype) -> None:
        page = mmap.PAGESIZE
        self.size, self.peak = size, 0
        padded = (record.itemsize + 7) // 8 * 8
        self._stride = np.dtype(
            {
                "names": ["length", "page", "record"],
                "formats": [np.uint32, np.uint32, record],
                "offsets": [0, 4, 8],
                "itemsize": 8 + padded,
            }
        )
        self._consumer_page = mmap.mmap(descriptor, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._data = mmap.mmap(descriptor, page + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._consumer_page, np.uint64, 1)
        self._producer = np.frombuffer(self._data, np.uint64, 1)
        # The kernel could map the data twice in a row, so that nothing wraps; mapped once, it is resident only once.
        self._bytes = np.frombuffer(self._data, np.uint8, size, page)

    def drain(self) -> np.ndarray:
        """Everything that is complete, as a copy: array of the record's dtype, possibly empty."""
        at = int(self._consumer[0])
        fill = int(self._producer[0]) - at
        if not fill:
            return np.empty(0, self._stride["record"])
        self.peak = max(self.peak, fill)
        start = at % self.size
        copy = self._bytes[start : start + fill]
        if len(copy) < fill:
            copy = np.concatenate([copy, self._bytes[: fill - len(copy)]])
        view = copy.view(self._stride)
        length = view["length"]
        busy = length & _BUSY != 0
        if busy.any():
            view = view[: busy.argmax()]
            length = length[: len(view)]
        kept = length & _DISCARD == 0
        batch = view["record"].copy() if kept.all() else view["record"][kept]
        self._consumer[0] = at + len(view) * self._stride.itemsize
        return batch

    def close(self) -> None:
        """Unmap; the views are dropped first, or Python would refuse."""
        del self._consumer, self._producer, self._bytes
        self._consumer_page.close()
        self._data.close()
