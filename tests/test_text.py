"""Numbers and names for people."""

from __future__ import annotations

from netrec.text import folder_names, format_latency


def test_latencies_of_a_second_are_seconds() -> None:
    given = (39.3, 94_600, 999_400, 1_020_000)
    assert [format_latency(one) for one in given] == ["0.0393 ms", "94.6 ms", "999 ms", "1.02 s"]


def test_folders_are_called_by_their_names_unless_two_are_alike() -> None:
    assert folder_names(["/var/traces/before", "after/"]) == ["before", "after"]
    assert folder_names(["a/trace", "b/trace"]) == ["a/trace", "b/trace"]
