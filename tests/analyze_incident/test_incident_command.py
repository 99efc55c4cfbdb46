"""`netrec analyze incident` from end to end: it finds the window, names the pattern, and its evidence can be re-run."""

from __future__ import annotations

import hashlib
import json
import shlex
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from benchmarks.statistics import incident_traces
from netrec.cli import main
from tests.analyze.traces import at, flow, write
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
    assert ":8443; matches accept-queue overflow" in out.splitlines()[0]
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


def test_what_changed_in_the_bundle_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    incident_traces.make(tmp_path / "trace", "rst-spike", seed=2)
    bundle = tmp_path / "evidence.zip"
    run(capsys, str(tmp_path / "trace"), "--bundle", str(bundle))
    assert verify(capsys, bundle)[0] == 0
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(unpacked)
    code, out = verify(capsys, unpacked)
    assert code == 0 and "0 problems" in out

    rows = sorted((unpacked / "rows").glob("*.parquet"))[0]
    frame = pl.read_parquet(rows)
    frame.head(frame.height - 1).write_parquet(rows)
    (unpacked / "answer.txt").unlink()
    (unpacked / "trace" / "more.txt").write_text("more")
    changed = tmp_path / "changed.zip"
    with zipfile.ZipFile(changed, "w") as archive:
        for file in sorted(unpacked.rglob("*")):
            archive.write(file, file.relative_to(unpacked))
    for path in (unpacked, changed):
        code, out = verify(capsys, path)
        assert code == 1
        assert f"rows/{rows.name} differs: its SHA-256 is" in out
        assert "answer.txt is missing" in out and "trace/more.txt was added" in out
        assert "3 problems" in out and out.count("\n") == 4

    with zipfile.ZipFile(bundle) as archive:
        place = archive.getinfo("answer.json").header_offset + 200
    data = bytearray(bundle.read_bytes())
    data[place] ^= 0xFF
    bundle.write_bytes(data)
    code, out = verify(capsys, bundle)
    assert code == 1 and "answer.json" in out and "1 problems" in out

    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "no manifest")
    code, out = verify(capsys, other)
    assert code == 2 and "is no evidence bundle" in out and out.count("\n") == 1


def verify(capsys: pytest.CaptureFixture[str], path: Path) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit:
        main(["verify", str(path)])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out + captured.err


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


def test_flows_that_hang_are_judged_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Large requests are sent again and again, and each flow ends an interval later, in a row without a byte."""
    rows = [flow(n, n / 5, n / 5 + 0.01, client_bytes=15_000 * (n % 2), client_packets=12) for n in range(1000)]
    rows += [flow(1000 + n, 200 + n / 5, 200 + n / 5 + 0.01) for n in range(200)]
    for n in range(2000, 2200):
        begun = 200 + (n - 2000) / 5
        hanging = {"server_bytes": 0, "server_packets": 1, "flow_start_time": at(begun), "client_port": 50_000}
        sent = {"client_bytes": 15_000, "client_packets": 12, "client_retransmits": 6}
        silent = {"client_bytes": 0, "client_packets": 0, "server_packets": 0, "tcp_close": "timeout"}
        rows.append(flow(n, begun, begun + 5, **hanging | sent, tcp_close=None, flow_end_reason="active"))
        rows.append(flow(n, begun + 5, begun + 8, **hanging | silent))
    write(tmp_path, "flows", rows)
    windows = ("--window", "20:03:20/20:04:08", "--baseline", "20:00:00/20:03:20")
    code, out, _ = run(capsys, str(tmp_path), "--utc", *windows, "--format", "json")
    assert (code, json.loads(out)["pattern"]) == (1, "mtu-black-hole"), out
