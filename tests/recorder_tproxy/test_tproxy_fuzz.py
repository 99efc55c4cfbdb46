"""A short run of the fuzzer; `python -m tests.support.fuzz --seconds 60` is the long one."""

from __future__ import annotations

from tests.support.fuzz import run


def test_damaged_first_bytes_neither_crash_nor_hang_the_parsers() -> None:
    assert run(1.0, seed=1) > 100
