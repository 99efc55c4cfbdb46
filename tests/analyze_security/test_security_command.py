"""`netrec analyze security`: what was planted is found and named, and ordinary traffic is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.statistics import incident_traces as traffic
from netrec.cli import main
from tests.support.analysis_traces import write_trace

DAY = 86_400.0


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["analyze", "security", *arguments])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out, captured.err


def day(generator: np.random.Generator) -> traffic.Traffic:
    return traffic.connections(generator, 8000, (0, DAY))


def findings(out: str) -> list[dict[str, str]]:
    return json.loads(out)["findings"]


def test_an_ordinary_day_has_no_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = day(np.random.default_rng(1))
    traffic.write(tmp_path / "t", rows)
    code, out, _ = run(capsys, str(tmp_path / "t"))
    assert code == 0, out
    assert out.startswith("No finding among")


def test_a_scan_is_found_by_its_failures_and_its_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(2)
    rows = day(generator)
    for number in range(40):
        probe = traffic.connections(
            generator, 1, (5000 + number, 5001 + number), server=(f"10.9.0.{number}", 22), client="192.168.66.6"
        )
        traffic.fail(probe.columns, np.array([number % 10 != 0]), packets=1.0, lasts=3000)
        rows.add(probe)
    traffic.write(tmp_path / "t", rows)
    code, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    found = {(row["kind"], row["source"]) for row in findings(out)}
    assert code == 1
    assert ("failed contacts", "192.168.66.6") in found
    assert ("many hosts", "192.168.66.6") in found
    assert {source for kind, source in found if kind != "new peer"} == {"192.168.66.6"}
    assert "attack" not in out


def test_an_outage_of_one_server_is_no_scan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = day(np.random.default_rng(3))
    down = rows.inside((20_000, 60_000)) & (rows.columns["port"] == 443)
    traffic.fail(rows.columns, down, packets=4.0, lasts=3e6)
    traffic.write(tmp_path / "t", rows)
    _, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    assert not [row for row in findings(out) if row["kind"] == "failed contacts"]


def test_a_beacon_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(4)
    rows = day(generator)
    moments = np.cumsum(60 * generator.uniform(0.9, 1.1, 1420))
    beats = traffic.connections(generator, len(moments), (0, 1), server=("203.0.113.9", 443), client="192.168.66.7")
    beats.columns["start"] = traffic.START + moments * 1e6
    beats.columns["end"] = beats.columns["start"] + 30_000
    beats.columns["client_bytes"][:] = 512
    rows.add(beats)
    traffic.write(tmp_path / "t", rows)
    code, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    found = [row for row in findings(out) if row["kind"] == "beacon"]
    assert code == 1
    assert found[0]["source"] == "192.168.66.7" and found[0]["target"] == "203.0.113.9:443"
    assert "every 60 s" in found[0]["evidence"] and float(found[0]["score"]) >= 0.9


def test_a_new_peer_and_an_unusual_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(5)
    rows = day(generator)
    client = str(rows.columns["client"][rows.columns["inbound"]][0])
    sent = traffic.connections(generator, 30, (DAY - 4000, DAY - 1000), server=("203.0.113.77", 443), client=client)
    sent.columns["client_bytes"][:] = 30_000_000
    rows.add(sent)
    traffic.write(tmp_path / "t", rows)
    _, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    found = {(row["kind"], row["source"], row["target"]) for row in findings(out)}
    assert ("new peer", client, "203.0.113.77:443") in found
    assert ("unusual volume", client, "its own history") in found


@pytest.mark.parametrize("flows", [0, 1])
def test_of_one_row_or_none(flows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "t", flows=flows, seconds=10)
    code, out, err = run(capsys, str(tmp_path / "t"))
    assert "unexpected" not in err
    assert (code, bool(out)) == ((0, True) if flows else (2, False))
