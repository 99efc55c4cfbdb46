"""Records from the ring to their pieces, against a ring that the test fills."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from recorder.sources.ebpf import intake
from recorder.sources.ebpf.intake import Intake

RECORD = np.dtype([("number", "u8")])


class Ring:
    """Gives what was put, as bytes, as much as there is room for."""

    record_bytes = 8

    def __init__(self) -> None:
        self.waiting = b""

    def put(self, numbers: range) -> None:
        self.waiting += np.array(numbers, "u8").tobytes()

    def take(self, into: np.ndarray) -> int:
        size = min(len(self.waiting), len(into)) // 8 * 8
        into[:size] = np.frombuffer(self.waiting[:size], np.uint8)
        self.waiting = self.waiting[size:]
        return size

    def records(self, raw: np.ndarray) -> np.ndarray:
        return raw.view(RECORD)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Intake]:
    """Pieces of ten records."""
    monkeypatch.setattr(intake, "PIECE_RECORDS", 10)
    ring: Any = Ring()
    return ring, Intake(ring)


def numbers(pieces: Any) -> list[list[int]]:
    return [piece["number"].tolist() for piece in pieces]


def test_records_come_once_and_in_order_whatever_comes_between(small: tuple[Any, Intake]) -> None:
    ring, taken = small
    chance, sent, got = random.Random(5), 0, []
    for _ in range(300):
        for _ in range(chance.randrange(4)):
            count = chance.randrange(35)
            ring.put(range(sent, sent + count))
            sent += count
            assert taken.drain() == 8 * count
        if chance.random() < 0.5:
            got += [number for piece in numbers(taken.pieces()) for number in piece]
        else:
            got += taken.all()["number"].tolist()
    got += taken.all()["number"].tolist()
    assert got == list(range(sent)) and sent > 5000


def test_the_ring_is_emptied_while_a_piece_is_worked_on(small: tuple[Any, Intake]) -> None:
    ring, taken = small
    ring.put(range(12))
    taken.drain()
    found = []
    for piece in taken.pieces():
        if not found:
            ring.put(range(12, 15))
        found.append(piece["number"].tolist())
    assert found == [list(range(10)), list(range(10, 15))]
    assert ring.waiting == b""


def test_a_reading_ends_however_much_comes_meanwhile(small: tuple[Any, Intake]) -> None:
    ring, taken = small
    ring.put(range(30))
    taken.drain()
    sent, found = 30, []
    for piece in taken.pieces():
        ring.put(range(sent, sent + 25))
        sent += 25
        found += piece["number"].tolist()
    assert found == list(range(30))
    assert taken.all()["number"].tolist() == list(range(30, sent))


def test_what_is_too_much_stays_in_the_ring(small: tuple[Any, Intake], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_PIECES", 3)
    ring, taken = small
    ring.put(range(100))
    assert taken.drain() == 8 * 30 and taken.drain() == 0
    assert [number for piece in numbers(taken.pieces()) for number in piece] == list(range(30))
    assert [number for piece in numbers(taken.pieces(last=True)) for number in piece] == list(range(30, 100))


def test_a_piece_is_not_written_over_while_it_is_worked_on(small: tuple[Any, Intake]) -> None:
    ring, taken = small
    ring.put(range(5))
    taken.drain()
    for piece in taken.pieces():
        ring.put(range(100, 120))
        taken.drain()
        assert piece["number"].tolist() == list(range(5))
    assert taken.all()["number"].tolist() == list(range(100, 120))
