"""`netrec analyze incident` from end to end: it finds the window, names the pattern, and its evidence can be re-run."""

from __future__ import annotations

import hashlib
import json
import shlex
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.statistics import incident_traces
from netrec.cli import main
from tests.support.analysis_traces import write_trace


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["analyze", "incident", *arguments])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out, captured.err


def clock(seconds: float) -> datetime:
    return datetime.fromtimestamp(incident_traces.START / 1e6 + seconds, UTC)


@pytest.mark.parametrize("pattern", ["accept-queue", "retransmit-storm", "dns", "elephant"])
def test_the_window_and_the_pattern_are_found(pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = incident_traces.make(tmp_path / "trace", pattern, seed=3)
    code, out, _ = run(capsys, str(tmp_path / "trace"), "--utc", "--format", "json")
    document = json.loads(out)
    assert code == 1
    assert document["pattern"] == pattern
    found = [datetime.fromisoformat(document["window"][edge]) for edge in ("since", "until")]
    assert abs((found[0] - clock(truth[0])).total_seconds()) <= 20
    assert abs((found[1] - clock(truth[1])).total_seconds()) <= 30
    assert document["patterns"][0]["matched"]
    assert document["timeline"]


def test_a_quiet_trace_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    incident_traces.make(tmp_path / "trace", None, seed=3)
    code, out, _ = run(capsys, str(tmp_path / "trace"), "--utc")
    assert code == 0
    assert out.startswith("Nothing unusual found between 2026-11-20 13:50:00")


def test_a_moment_and_a_window_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = incident_traces.make(tmp_path / "trace", "accept-queue", seed=1)
    middle = clock(sum(truth) / 2)
    code, out, _ = run(capsys, str(tmp_path / "trace"), "--utc", "--at", f"{middle:%H:%M:%S}")
    assert code == 1
    assert "in port 8443; matches accept-queue overflow" in out.splitlines()[0]
    window = f"{clock(truth[0]):%H:%M:%S}/{clock(truth[1]):%H:%M:%S}"
    code, out, _ = run(
        capsys,
        str(tmp_path / "trace"),
        "--utc",
        "--window",
        window,
        "--baseline",
        "13:51/13:55",
        "--format",
        "markdown",
    )
    assert code == 1
    assert "matches accept\\-queue" in out or "matches accept-queue" in out
    assert "### What moved, in order" in out


def test_the_bundle_runs_again_and_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    incident_traces.make(tmp_path / "trace", "rst-spike", seed=2)
    bundle = tmp_path / "evidence.zip"
    _, out, _ = run(capsys, str(tmp_path / "trace"), "--utc", "--bundle", str(bundle), "--format", "json")
    with zipfile.ZipFile(bundle) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert set(manifest["versions"]) == {"netrec", "duckdb", "polars"}
        for name, digest in manifest["sha256"].items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == digest
        assert b"select" in archive.read("queries.sql")
        archive.extractall(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    command = shlex.split(manifest["command"])
    assert command[:3] == ["netrec", "analyze", "incident"]
    _, again, _ = run(capsys, *command[3:], "--utc", "--format", "json")
    first, second = json.loads(out), json.loads(again)
    assert first["pattern"] == second["pattern"] == "rst-spike"
    assert first["slices"] == second["slices"]
    assert first["signals"] == pytest.approx(second["signals"])


@pytest.mark.parametrize("flows", [1, 3])
def test_too_little_is_a_sentence(flows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "trace", flows=flows, seconds=5)
    code, out, err = run(capsys, str(tmp_path / "trace"))
    assert code == 3
    assert "too little" in out and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "14:00", "--window", "14:00/14:01"], "exclude each other"),
        (["--window", "14:00"], "not a window"),
        (["--at", "2031-01-01T00:00"], "outside the trace"),
        (["--window", "2031-01-01T00:00/+5m"], ""),
    ],
)
def test_errors_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    incident_traces.make(tmp_path / "trace", None, seed=1)
    code, _, err = run(capsys, str(tmp_path / "trace"), "--utc", *arguments)
    assert code == 2
    assert words in err and err.count("\n") == 1 and "unexpected" not in err


def test_the_timeline_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    incident_traces.make(tmp_path / "trace", "accept-queue", seed=3)
    code, out, _ = run(capsys, str(tmp_path / "trace"), "--utc", "--plot")
    assert code == 1
    assert "Connect latency over time" in out
    assert "When each metric left its usual level, and came back" in out
    assert any(line.startswith("connect latency ") and "█" in line for line in out.splitlines())
