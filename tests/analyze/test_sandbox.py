"""SQL from users reads the trace and nothing else, and writes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from analyze import sandbox
from analyze.scan import Scan
from netrec import cli
from tests.analyze.conftest import Answer

Run = Callable[..., Answer]

OUTSIDE = [
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/proc/self/environ')",
    "select * from read_json('/etc/os-release')",
    "select * from read_parquet('/etc/passwd')",
    "select * from '/etc/passwd'",
    "select * from glob('/etc/*')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from parquet_metadata('/etc/passwd')",
    "select * from read_text('{trace}/../secret')",
    "select * from read_csv('https://example.com/x.csv')",
    "select getenv('HOME')",
    "select (select content from read_text('/etc/passwd'))",
    "select * from query('select * from read_text(''/etc/passwd'')')",
    "select * from duckdb_secrets()",
]
NOT_READING = [
    "copy (select 1) to '{trace}/x.csv'",
    "copy (select 1) to '/tmp/netrec-x.csv'",
    "attach '{trace}/x.db'",
    "attach '/tmp/netrec-x.db'",
    "export database '{trace}'",
    "install httpfs",
    "load httpfs",
    "set enable_external_access = true",
    "reset lock_configuration",
    "pragma database_list",
    "call duckdb_functions()",
    "create table x as select 1",
    "drop view flows",
    "delete from flows",
    "insert into flows select * from flows",
    "create secret (type s3)",
    "select 1; copy (select 1) to '{trace}/x.csv'",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("statement", OUTSIDE + NOT_READING)
def test_refused_in_one_sentence(netrec: Run, trace: Path, statement: str) -> None:
    (trace.parent / "secret").write_text("secret")
    before = sorted(trace.rglob("*"))
    answer = netrec("sql", statement.format(trace=trace), trace)
    assert answer.code == 2, answer.out
    assert answer.out == ""
    assert answer.err.count("\n") == 1, answer.err
    assert "unexpected" not in answer.err
    assert sorted(trace.rglob("*")) == before


@pytest.mark.parametrize("statement", [one for one in OUTSIDE + NOT_READING[:9] if one])
def test_the_connection_itself_refuses_the_outside(trace: Path, statement: str) -> None:
    """Without the check of the statement: query files run on the same connection."""
    scan = Scan([trace])
    scan.require("flows")
    text = statement.format(trace="/tmp/netrec-outside")
    with pytest.raises(duckdb.Error):
        scan.connection.execute(text).fetchall()
        raise AssertionError(f"{text} was allowed")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select sum(bytes) from flow", "30008900"),
        ("from flow select count(*) as n", "n"),
        ("with a as (select 1 as one) select one from a -- comment", "one"),
        ("describe flow", "client_address"),
        ("summarize flow", "client_address"),
        ("values (42)", "42"),
    ],
)
def test_reading_is_allowed(netrec: Run, trace: Path, statement: str, expected: str) -> None:
    answer = netrec("sql", statement, trace, "--format", "csv")
    assert answer.code == 0, answer.err
    assert expected in answer.out


def test_unknown_names_are_helped(netrec: Run, trace: Path) -> None:
    assert "did you mean 'client_bytes'" in netrec("sql", "select clientbytes from flow", trace).err
    assert "did you mean 'health'" in netrec("sql", "select * from healt", trace).err


def test_a_database_that_was_begun_ahead_is_as_closed(trace: Path) -> None:
    sandbox.begin()
    sandbox.begin()  # one is enough
    for connection in (sandbox.connect([trace]), sandbox.connect([trace])):
        assert connection.execute("select current_setting('timezone')").fetchone() == ("UTC",)
        for statement in (*OUTSIDE[:3], "set enable_external_access = true", "set allowed_directories = ['/']"):
            with pytest.raises(duckdb.Error):
                connection.execute(statement).fetchall()


def test_a_query_pays_for_the_views_that_it_mentions(trace: Path) -> None:
    scan = Scan([trace])
    scan.require("flows")
    scan.fetch("select sum(bytes) from flow")
    views = {
        row[0] for row in scan.connection.execute("select view_name from duckdb_views() where not internal").fetchall()
    }
    assert {"flow", "flow_overlapping"} <= views
    assert not {"flow_with_losses", "session", "sighting"} & views


@pytest.mark.parametrize("spilled", [False, True])
def test_an_analysis_ends_its_process_at_once_unless_files_are_left_to_remove(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trace: Path, tmp_path: Path, spilled: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["netrec", "analyze", "top-talkers", str(trace), "--format", "csv"])
    monkeypatch.setattr("os._exit", lambda code: sys.exit(f"at once: {code}"))
    if spilled:
        (tmp_path / f"netrec-{os.getuid()}-{os.getpid()}").mkdir()
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == (0 if spilled else "at once: 0")
    assert capsys.readouterr().out.startswith("talker,")


def test_a_query_larger_than_memory_spills_where_it_may(trace: Path, tmp_path: Path) -> None:
    connection = sandbox.connect([trace])
    row = connection.execute("select current_setting('temp_directory'), current_setting('threads')").fetchone()
    assert row is not None
    assert "netrec-" in row[0]
