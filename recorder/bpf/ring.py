"""A BPF ring buffer, mapped: records of one size are read in bulk as a structured array, others one by one.

Each record is preceded by the kernel's 8-byte header (length with a busy and a discard bit, page offset); records of
one size have one stride. And a BPF array, mapped (`mapped_array`).
"""

from __future__ import annotations

import mmap

import numpy as np

# Bytes that are copied before they are given back to the kernel: they stay in the processor's cache meanwhile, and when
# the consumer is not scheduled in the middle of a large batch, the kernel has the room of most of it already.
_PIECE = 1 << 20
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

    def _fill(self) -> int:
        """Bytes that the kernel has put there, complete or not."""
        fill = int(self._producer[0]) - int(self._consumer[0])
        self.peak = max(self.peak, fill)
        return fill

    def _copy(self, into: np.ndarray) -> None:
        """The oldest bytes that are there, as many as there is room for."""
        start = int(self._consumer[0]) % self.size
        until_end = self._bytes[start : start + len(into)]
        into[: len(until_end)] = until_end
        into[len(until_end) :] = self._bytes[: len(into) - len(until_end)]

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
        self._words = self._bytes.view(np.uint32)
        # Where the headers of as many records as make a piece are, in words from the first one's.
        self._headers = np.arange(max(_PIECE // (8 + padded), 1)) * ((8 + padded) // 4)

    def drain(self) -> np.ndarray:
        """Everything that is complete, as a copy: array of the record's dtype, possibly empty."""
        batch = np.empty(self._fill(), np.uint8)
        return self.records(batch[: self.take(batch)])

    def take(self, into: np.ndarray) -> int:
        """Move the oldest records that are complete, as bytes for `records`, to where there is room for len(into).

        How many bytes were moved: a multiple of `record_bytes`. Bytes are copied and joined at once, structs field by
        field.
        """
        stride = self.record_bytes
        room = min(self._fill(), len(into))
        done = 0
        while done < room:
            wanted = min(len(self._headers), (room - done) // stride)
            whole = self._complete(wanted)
            self._copy(into[done : done + whole * stride])
            self._consume(whole * stride)
            done += whole * stride
            if whole < wanted or not wanted:
                break
        return done

    @property
    def record_bytes(self) -> int:
        """What a record takes in the ring, its header included."""
        return self._stride.itemsize

    def _complete(self, most: int) -> int:
        """How many of the oldest records are complete, up to the first that is not. To be known before they are copied:
        the kernel may complete one while it is."""
        first = int(self._consumer[0]) // 4
        headers = self._words[(first + self._headers[:most]) & (self.size // 4 - 1)]
        busy = headers & _BUSY != 0
        return int(busy.argmax()) if busy.any() else most

    def close(self) -> None:
        del self._words
        super().close()

    def records(self, raw: np.ndarray) -> np.ndarray:
        """What was taken, less what was discarded: array of the record's dtype, where possible a view of `raw`."""
        view = raw.view(self._stride)
        kept = view["length"] & _DISCARD == 0
        return view["record"] if kept.all() else view["record"][kept]


class RecordRing(_MappedRing):
    """Of records of different sizes."""

    def drain(self) -> list[bytes]:
        """Every record up to the first that is not complete, as a copy."""
        copy = np.empty(self._fill(), np.uint8)
        self._copy(copy)
        waiting = copy.tobytes()
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
