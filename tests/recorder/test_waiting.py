"""How the recording loop sleeps."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from recorder.waiting import Waiter

LONG = 60.0


@pytest.fixture
def waiter() -> Iterator[Waiter]:
    one = Waiter()
    yield one
    one.close()


def test_it_ends_by_itself(waiter: Waiter) -> None:
    begun = time.monotonic()
    waiter.wait(0.05)
    waiter.wait(-1.0)
    assert 0.05 <= time.monotonic() - begun < LONG


def test_a_call_ends_it_once_now_or_the_next_time(waiter: Waiter) -> None:
    waiter.call()
    waiter.call()
    begun = time.monotonic()
    waiter.wait(LONG)
    assert time.monotonic() - begun < LONG / 2
    begun = time.monotonic()
    waiter.wait(0.05)
    assert time.monotonic() - begun >= 0.05


def test_a_signal_handler_can_end_it(waiter: Waiter) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: waiter.call())
    try:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        begun = time.monotonic()
        waiter.wait(LONG)
        assert time.monotonic() - begun < LONG / 2
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_descriptor_ends_it_only_when_something_new_is_there(waiter: Waiter) -> None:
    read, write = os.pipe()
    try:
        waiter.watch([read])
        os.write(write, b"1")
        begun = time.monotonic()
        waiter.wait(LONG)
        assert time.monotonic() - begun < LONG / 2
        begun = time.monotonic()
        waiter.wait(0.05)  # what lies there unread is not new
        assert time.monotonic() - begun >= 0.05
        os.write(write, b"2")
        begun = time.monotonic()
        waiter.wait(LONG)
        assert time.monotonic() - begun < LONG / 2
    finally:
        os.close(read)
        os.close(write)
