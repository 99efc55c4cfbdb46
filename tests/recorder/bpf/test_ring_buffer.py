"""The ring's consumer, against a buffer that the test fills as the kernel would."""

from __future__ import annotations

import mmap
import os
import random
import struct

import numpy as np
import pytest

from recorder.bpf.ring import RingBuffer

RECORD = np.dtype([("number", "u8"), ("text", "S13"), ("small", "u2")], align=True)
STRIDE = 8 + (RECORD.itemsize + 7) // 8 * 8
PAGE = mmap.PAGESIZE
BUSY, DISCARD = 1 << 31, 1 << 30


class Kernel:
    """Producer: a memory file with the consumer's page, the producer's page and the data."""

    def __init__(self, size: int) -> None:
        self.size, self.at = size, 0
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 2 * PAGE + size)
        self.memory = mmap.mmap(self.descriptor, 2 * PAGE + size)

    def put(self, number: int, flags: int = 0) -> int:
        """Append a record; returns where its header is."""
        record = np.zeros(1, RECORD)
        record["number"], record["text"], record["small"] = number, f"n{number}".encode(), number % 1000
        start = self.at
        data = struct.pack("<II", RECORD.itemsize | flags, 0) + record.tobytes().ljust(STRIDE - 8, b"\0")
        for offset, byte in enumerate(data):
            self.memory[2 * PAGE + (start + offset) % self.size] = byte
        self.at += STRIDE
        self.memory[PAGE : PAGE + 8] = struct.pack("<Q", self.at)
        return start

    def commit(self, start: int) -> None:
        at = 2 * PAGE + start % self.size
        (length,) = struct.unpack_from("<I", self.memory, at)
        self.memory[at : at + 4] = struct.pack("<I", length & ~BUSY)

    @property
    def consumed(self) -> int:
        return struct.unpack_from("<Q", self.memory, 0)[0]


@pytest.fixture
def kernel() -> Kernel:
    return Kernel(PAGE)


def test_every_record_comes_once_and_in_order_across_many_wraps(kernel: Kernel) -> None:
    ring = RingBuffer(kernel.descriptor, PAGE, RECORD)
    chance, sent, got = random.Random(3), 0, []
    while sent < 5000:
        for _ in range(chance.randrange(PAGE // STRIDE)):
            kernel.put(sent)
            sent += 1
        batch = ring.drain()
        assert batch["text"].tolist() == [f"n{number}".encode() for number in batch["number"]]
        got += batch["number"].tolist()
    assert got == list(range(len(got))) and len(got) == sent
    assert 0 < ring.peak <= PAGE
    assert kernel.consumed == kernel.at
    ring.close()


def test_a_record_that_is_being_written_waits_and_holds_back_the_later_ones(kernel: Kernel) -> None:
    ring = RingBuffer(kernel.descriptor, PAGE, RECORD)
    kernel.put(1)
    busy = kernel.put(2, BUSY)
    kernel.put(3)
    assert ring.drain()["number"].tolist() == [1]
    assert ring.drain()["number"].tolist() == []
    kernel.commit(busy)
    assert ring.drain()["number"].tolist() == [2, 3]


def test_discarded_records_are_passed_over(kernel: Kernel) -> None:
    ring = RingBuffer(kernel.descriptor, PAGE, RECORD)
    for number in range(6):
        kernel.put(number, DISCARD if number % 2 else 0)
    assert ring.drain()["number"].tolist() == [0, 2, 4]
    assert kernel.consumed == kernel.at


def test_a_batch_does_not_change_when_the_ring_is_written_again(kernel: Kernel) -> None:
    ring = RingBuffer(kernel.descriptor, PAGE, RECORD)
    kernel.put(1)
    batch = ring.drain()
    for number in range(2 * PAGE // STRIDE):
        kernel.put(100 + number)
    assert batch["number"].tolist() == [1]


def test_the_kernel_has_the_room_of_each_piece_before_the_next_is_copied(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer that is not scheduled in the middle of a large batch holds no more than a piece of it."""
    monkeypatch.setattr("recorder.bpf.ring._PIECE", 4 * STRIDE)
    ring = RingBuffer(kernel.descriptor, PAGE, RECORD)
    for number in range(10):
        kernel.put(number, BUSY if number == 9 else 0)
    seen = []
    copy = ring._copy

    def watched(into: np.ndarray) -> None:
        seen.append(kernel.consumed // STRIDE)
        copy(into)

    monkeypatch.setattr(ring, "_copy", watched)
    assert ring.drain()["number"].tolist() == list(range(9))
    assert seen == [0, 4, 8]
    assert kernel.consumed == 9 * STRIDE
