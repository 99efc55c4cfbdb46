"""Numbers by 64-bit key, found for whole columns of keys at once: a hash table with linear probing, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ABSENT = -1
_SLOTS_PER_KEY = 4  # so few are taken that nearly every key is found at its first slot


class Lookup:
    """`keys` are hashes already (their low bits choose a slot); `numbers`, not negative, are what they stand for.

    Where it has many rows, a join costs six times as much: it takes along every column of them.
    """

    def __init__(self, keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> None:
        size = 1 << max(_SLOTS_PER_KEY * len(keys), 1).bit_length()
        self._mask = size - 1
        self._keys = np.zeros(size, np.uint64)
        self._numbers = np.full(size, ABSENT, np.int32)
        slots, waiting = self._first(keys), np.arange(len(keys))
        while len(waiting):
            free = waiting[self._numbers[slots[waiting]] == ABSENT]
            self._keys[slots[free]], self._numbers[slots[free]] = keys[free], numbers[free]
            # Of several that want the same slot one has got it.
            waiting = waiting[self._keys[slots[waiting]] != keys[waiting]]
            slots[waiting] = (slots[waiting] + 1) & self._mask

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int32]:
        """The number of each key, `ABSENT` for one that is not there."""
        slots = self._first(keys)
        found = self._numbers[slots]
        elsewhere = np.flatnonzero((self._keys[slots] != keys) & (found != ABSENT))
        while len(elsewhere):
            tried = slots[elsewhere] = (slots[elsewhere] + 1) & self._mask
            found[elsewhere] = self._numbers[tried]
            elsewhere = elsewhere[(self._keys[tried] != keys[elsewhere]) & (found[elsewhere] != ABSENT)]
        return found

    def _first(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        return (keys & np.uint64(self._mask)).astype(np.int64)
