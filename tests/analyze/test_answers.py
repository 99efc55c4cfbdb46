"""The everyday queries give the right figures, worked out by hand from the rows of the test trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analyze.conftest import Answer
from tests.analyze.traces import CAPTURE, at, flow, write

Run = Callable[..., Answer]
LONG = 30_000_000
TOTAL = 1000 + 5900 + 1000 + 0 + 1000 + LONG


def rows(answer: Answer) -> list[dict[str, Any]]:
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["rows"]


def test_every_byte_counts_once_and_other_makes_the_sum_right(netrec: Run, trace: Path) -> None:
    found = rows(netrec("analyze", "top-talkers", trace, "-n", "1", "--format", "json"))
    assert [row["talker"] for row in found] == ["10.0.0.1 -> 10.0.0.9", "(other)"]
    assert sum(row["bytes"] for row in found) == TOTAL
    assert sum(row["share"] for row in found) == pytest.approx(1)
    assert found[0]["bytes"] == LONG + 1000
    assert sum(row["flows"] for row in found) == 6


@pytest.mark.parametrize(
    ("by", "first"),
    [
        ("client", "10.0.0.1"),
        ("server", "10.0.0.9"),
        ("service", "10.0.0.9:443"),
        ("process", "backup"),
        ("container", "(none)"),
        ("host", "web-1"),
    ],
)
def test_top_talkers_by(netrec: Run, trace: Path, by: str, first: str) -> None:
    found = rows(netrec("analyze", "top-talkers", trace, "--by", by, "--format", "json"))
    assert found[0]["talker"] == first
    assert sum(row["bytes"] for row in found) == TOTAL


def test_ipv6_services_are_written_with_brackets(netrec: Run, trace: Path) -> None:
    found = rows(netrec("analyze", "top-talkers", trace, "--by", "service", "--format", "json"))
    assert "[2001:db8::9]:443" in [row["talker"] for row in found]


@pytest.mark.parametrize("order", ["bytes", "packets", "flows", "retransmits"])
def test_top_talkers_rank_by_the_measure(netrec: Run, trace: Path, order: str) -> None:
    found = rows(netrec("analyze", "top-talkers", trace, "--by", "process", "--order", order, "--format", "json"))
    measures = [row[order] for row in found]
    assert measures == sorted(measures, reverse=True)
    assert sum(row["share"] for row in found) == pytest.approx(1)


def test_flows_are_counted_once_in_any_window(netrec: Run, trace: Path) -> None:
    """The long flow has only `active` rows before 20 s: it still counts, once."""
    found = rows(netrec("analyze", "summary", trace, "--until", "2026-11-22T20:00:25Z", "--format", "json"))
    assert found[0]["flows"] == 6
    first = rows(netrec("analyze", "summary", trace, "--until", "2026-11-22T20:00:05Z", "--format", "json"))
    assert first[0]["flows"] == 2


def test_windows_that_meet_share_no_row(netrec: Run, trace: Path) -> None:
    edge = "2026-11-22T20:00:10Z"
    before = rows(netrec("analyze", "summary", trace, "--until", edge, "--format", "json"))[0]["bytes"]
    after = rows(netrec("analyze", "summary", trace, "--since", edge, "--format", "json"))[0]["bytes"]
    assert before + after == TOTAL


def test_the_timeline_spreads_long_rows_and_its_sums_are_exact(netrec: Run, tmp_path: Path) -> None:
    trace = tmp_path / "t"
    write(trace, "flows", [flow(1, 0.5, 10.2, client_bytes=7, server_bytes=10**12 + 1), flow(2, 3, 3), flow(3, 2, 4)])
    found = rows(netrec("analyze", "timeline", trace, "--bin", "1s", "--format", "json"))
    assert [row["time"] for row in found][:2] == ["2026-11-22T20:00:00Z", "2026-11-22T20:00:01Z"]
    assert len(found) == 11
    assert sum(row["bytes"] for row in found) == 10**12 + 8 + 2000
    assert sum(row["flows"] for row in found) == 3
    assert found[1]["server_bytes"] == pytest.approx(10**12 / 9.7, rel=1e-9)
    assert found[0]["server_bytes"] == pytest.approx(10**12 * 0.5 / 9.7, rel=1e-9)
    assert found[3]["flows"] == 2


def test_a_window_cuts_the_timeline_but_not_its_curve(netrec: Run, tmp_path: Path) -> None:
    trace = tmp_path / "t"
    write(trace, "flows", [flow(1, 0, 10, client_bytes=0, server_bytes=1000)])
    window = ("--since", "2026-11-22T20:00:02Z", "--until", "2026-11-22T20:00:08Z")
    found = rows(netrec("analyze", "timeline", trace, "--bin", "1s", *window, "--format", "json"))
    assert [row["bytes"] for row in found] == [100] * 6


def test_sessions_stitch_the_rows_of_a_flow_within_its_capture(netrec: Run, trace: Path) -> None:
    write(trace, "flows", [flow(6, 70, 71, server_bytes=5)], capture="20261122T200100Zbbbbbb", opened=at(60))
    found = rows(netrec("analyze", "flows", trace, "--sessions", "--order", "bytes", "--format", "json"))
    assert found[0]["intervals"] == 3
    assert found[0]["server_bytes"] == LONG
    assert found[0]["capture"] == f"web-1-{CAPTURE}"
    assert [row["flow_id"] for row in found].count(6) == 2
    plain = rows(netrec("analyze", "flows", trace, "--format", "json", "-n", "0"))
    assert len(plain) == 9


def test_sampled_flows_are_scaled_up(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path / "t", "flows", [flow(1, 0, 1, sampling_interval=10), flow(2, 0, 1)])
    found = rows(netrec("analyze", "summary", tmp_path / "t", "--format", "json"))[0]
    assert (found["flows"], found["bytes"]) == (11, 11_000)


def test_several_traces_at_once(netrec: Run, trace: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", "flows", [flow(1, 0, 1, host="web-2")], host="web-2")
    found = rows(netrec("analyze", "top-talkers", trace, tmp_path / "other", "--by", "host", "--format", "json"))
    assert {row["talker"]: row["bytes"] for row in found} == {"web-1": TOTAL, "web-2": 1000}


def test_losses_and_gaps_are_said_under_the_table(netrec: Run, trace: Path) -> None:
    out = netrec("analyze", "top-talkers", trace).out
    assert "lost 2 of 100 events" in out
    assert "not recording 2026-11-22 20:00:40 to 2026-11-22 20:00:50 (disk full)" in out
    assert "lost 2 of 100" in netrec("analyze", "top-talkers", trace, "--format", "csv").err
    later = netrec("analyze", "top-talkers", trace, "--since", "20:00:25", "--until", "20:00:31", "--utc")
    assert "disk full" not in later.out


def test_a_filter_selects(netrec: Run, trace: Path) -> None:
    filtered = ("--filter", "server_port = 5432 or process_name like 'back%'")
    found = rows(netrec("analyze", "summary", trace, *filtered, "--format", "json"))[0]
    assert found["bytes"] == LONG + 1000


def test_a_filter_cannot_escape_its_place(netrec: Run, trace: Path) -> None:
    """Written back from the parsed tree: an unbalanced text must not reach past the condition."""
    found = rows(netrec("analyze", "summary", trace, "--filter", "server_port = 1) or (true", "--format", "json"))[0]
    assert found["bytes"] == TOTAL  # the whole expression, and duplicates still left out


def test_captures_that_overlap_are_named(netrec: Run, trace: Path) -> None:
    assert "overlap" not in netrec("analyze", "summary", trace).out
    write(trace, "flows", [flow(1, 31, 32)], capture="20261122T200030Zbbbbbb", opened=at(30))
    assert "captures of web-1 overlap in time" in netrec("analyze", "summary", trace).out


def test_times_of_a_column_have_the_same_digits() -> None:
    from analyze.render.table import align_times

    rows = [["20:00:01.25"], ["20:00:02"], ["-"], ["20:00:03.5"]]
    align_times(rows, 0)
    assert rows == [["20:00:01.250"], ["20:00:02.000"], ["-"], ["20:00:03.500"]]
    whole = [["20:00:01"], ["20:00:02"]]
    align_times(whole, 0)
    assert whole == [["20:00:01"], ["20:00:02"]]


def test_small_numbers_keep_their_digits_and_nothing_is_shown_as_inf() -> None:
    from analyze.render.cells import cell
    from analyze.result import Column

    column = Column("x", "DOUBLE", "")
    shown = [cell(value, column, None) for value in (0.0, 0.5, 0.0213, 0.00034, 3e-7, -3e-7, 1234.5, float("inf"))]
    assert shown == ["0.00", "0.50", "0.021", "0.00034", "<0.0001", ">-0.0001", "1,234.50", "∞"]
