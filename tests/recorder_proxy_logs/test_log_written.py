"""What killed recordings had written of a log is found in the trace, theirs and no other."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.trace import layout
from recorder.sources.proxy_logs import session, written
from recorder.sources.proxy_logs.follow import LONGEST, Place

HOUR = datetime(2026, 11, 23, 1, tzinfo=UTC)


def at(number: int, offset: int) -> int:
    return Place(number=number, offset=offset).position


def put(trace: Path, capture: str, **positions: list[int]) -> None:
    """A file of a capture with rows of each source."""
    path = trace / layout.TraceFile("flows", HOUR, "host", capture, 0).relative
    path.parent.mkdir(parents=True, exist_ok=True)
    batches = []
    for source, places in positions.items():
        lines = [session.LoggedSession(0, 0, flow_id=written.flow_id(source, place)) for place in places]
        batches.append(session.batch(lines, source, "host"))
    pq.write_table(pa.Table.from_batches(batches), path)


def test_the_last_row_of_these_captures_and_this_source(tmp_path: Path) -> None:
    start = at(3, 100)
    assert written.rows_up_to(tmp_path, ["a", "b"], "haproxy", start) == start - 1
    put(tmp_path, "a", haproxy=[at(2, 5000), start, at(3, 200)])
    put(tmp_path, "b", haproxy=[at(4, 10)], squid=[at(5, 10)])
    put(tmp_path, "c", haproxy=[at(6, 10)])
    assert written.rows_up_to(tmp_path, ["a"], "haproxy", start) == at(3, 200)
    assert written.rows_up_to(tmp_path, ["a", "b"], "haproxy", start) == at(4, 10)


@pytest.mark.parametrize("number", [4095, 8191, 70000])
def test_rotations_without_end_hide_no_line(tmp_path: Path, number: int) -> None:
    put(tmp_path, "a", haproxy=[at(number, 100), at(number, 200)])
    assert written.rows_up_to(tmp_path, ["a"], "haproxy", at(number + 1, 0)) == at(number + 1, 0) - 1
    put(tmp_path, "b", haproxy=[at(number + 1, 7)])
    assert written.rows_up_to(tmp_path, ["a", "b"], "haproxy", at(number, 150)) == at(number + 1, 7)


def test_the_last_rejected_line_however_long(tmp_path: Path) -> None:
    assert written.rejected_up_to(tmp_path, ["a"], "squid") == -1
    with written.rejected_file(tmp_path, "squid", "a").open("w") as file:
        for offset in range(3):
            file.write(written.rejected_line(at(1, offset * LONGEST), "no time", "\\x00" * LONGEST))
    with written.rejected_file(tmp_path, "squid", "b").open("w") as file:
        file.write(written.rejected_line(at(9, 0), "no time", "another capture's"))
    assert written.rejected_up_to(tmp_path, ["a"], "squid") == at(1, 2 * LONGEST)
