"""`netrec.open`: traces in Python."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import netrec
from netrec.errors import MissingTableError, QueryError, TraceError, UsageError
from tests.analyze.traces import at


def test_tables_relations_and_frames(trace: Path) -> None:
    opened = netrec.open(trace)
    assert opened.tables == ["flows", "health"]
    assert opened.flows.count("*").fetchall() == [(9,)]
    assert opened.sql("select count(*) from flow").fetchall() == [(8,)]
    frame = opened.polars("flow").collect()
    assert frame["bytes"].sum() == 30_008_900
    with pytest.raises(MissingTableError, match="no events table"):
        _ = opened.events


def test_queries_give_arrow_tables(trace: Path) -> None:
    opened = netrec.open(trace, until=at(12), timezone="UTC")
    table = opened.query("top-talkers", by="process", n=2)
    assert table.num_rows == 3
    assert table.schema.field("bytes").type == "int64"
    assert opened.context.lost == 2
    assert opened.result("summary").columns[0].meaning
    with pytest.raises(UsageError, match="no parameter 'colour'"):
        opened.query("top-talkers", colour="red")
    with pytest.raises(QueryError, match="did you mean 'top-talkers'"):
        opened.query("top-talker")


def test_windows_and_filters(trace: Path) -> None:
    by_text = netrec.open(trace, since="20:00:25")
    by_time = netrec.open(trace, since=at(25))
    relative = netrec.open(trace, last="25s")
    answers = [opened.query("summary").to_pylist() for opened in (by_text, by_time, relative)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0]["first_time"] == at(20)
    assert answers[0][0]["last_time"] - answers[0][0]["first_time"] == timedelta(seconds=10)
    filtered = netrec.open(trace, filter="process_name = 'backup'").query("summary").to_pylist()[0]
    assert filtered["flows"] == 1


def test_errors(tmp_path: Path, trace: Path) -> None:
    with pytest.raises(TraceError, match="there is no trace"):
        netrec.open(tmp_path / "none")
    with pytest.raises(QueryError, match="not allowed"):
        netrec.open(trace).sql("drop view flows")
