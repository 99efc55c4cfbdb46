"""A long history from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_history_is_as_long_as_asked_grows_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    trace = str(tmp_path / "trace")
    made = run(
        *("recorder.sources.synthetic", trace, "--days", "20", "--until", "2026-03-01", "--flows-per-day", "300"),
        *("--growth-per-day", "0.1", "--clients", "50"),
    )
    assert made.returncode == 0 and "12000 synthetic flows" in made.stdout
    told = run("netrec", "sql", "select min(end_time)::date as first, max(end_time)::date as last, "
               "count(*) filter (end_time < '2026-02-19') as before, count(*) as flows, any_value(host) as host "
               "from flows", trace, "--format", "json")  # fmt: skip
    (row,) = json.loads(told.stdout)["rows"] if told.stdout.startswith("{") else json.loads(told.stdout)
    assert row["first"].startswith("2026-02-09") and row["last"].startswith("2026-02-28")
    assert row["flows"] == 12_000 and row["host"] == "synthetic"
    # The first half of a rate that grows from 1 to 3: 1.5 of 4 parts.
    assert row["before"] / row["flows"] == pytest.approx(1.5 / 4, abs=0.03)


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = run("recorder.sources.synthetic", str(tmp_path))
    assert done.returncode == 2 and "exists already" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_shrinking_to_nothing_is_refused(tmp_path: Path) -> None:
    done = run("recorder.sources.synthetic", str(tmp_path / "trace"), "--days", "30", "--growth-per-day", "-1")
    assert done.returncode == 2 and "growth-per-day" in done.stderr
