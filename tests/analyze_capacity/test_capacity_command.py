"""`netrec analyze capacity` from end to end: dates from a history, what fits, what is billed, and what is not known."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from netrec.cli import main
from tests.support.analysis_traces import Change, write_trace
from tests.support.gauge_traces import write_gauges

SAMPLES = Path(__file__).parent.parent.parent / "sample_traces"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["analyze", "capacity", *arguments])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out, captured.err


def growing(days: int = 90, slope: float = 3.0) -> np.ndarray:
    generator = np.random.default_rng(4)
    weekly = 15 * np.sin(2 * np.pi * np.arange(days) / 7)
    return 500 + slope * np.arange(days) + weekly + generator.normal(0, 8, days)


def test_a_date_with_its_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steady = 100 + np.random.default_rng(1).normal(0, 2, 90)
    write_gauges(tmp_path / "t", {"conntrack": (growing(), 950.0), "sockets": (steady, 1000.0)})
    code, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    document = json.loads(out)
    first = document["resources"][0]
    assert code == 1
    assert first["resource"] == "conntrack"
    # 855 is reached by the line on day 118, and 15 earlier at the top of a week; the history ends on 2026-10-29.
    assert date(2026, 11, 10) <= date.fromisoformat(first["p50_date"]) <= date(2026, 12, 1)
    assert first["p10_date"] <= first["p50_date"] <= first["p90_date"]
    assert first["growth_per_week"] == pytest.approx(21, abs=4)
    assert 0.6 <= first["coverage"] <= 1.0
    assert "conntrack on gw-3 reaches 90% of its limit between 2026-11-" in document["sentence"]
    assert document["forecast"] and document["evidence"]
    other = next(row for row in document["resources"] if row["resource"] == "sockets")
    assert other["status"] == "fine" and other["p50_date"] == "not within the horizon"


def test_lead_time_sets_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gauges(tmp_path / "t", {"conntrack": (growing(), 950.0)})
    assert run(capsys, str(tmp_path / "t"), "--at-risk-within", "30d")[0] == 1
    assert run(capsys, str(tmp_path / "t"), "--at-risk-within", "3d")[0] == 0
    write_gauges(tmp_path / "calm", {"conntrack": (growing(slope=0.0), 2000.0)})
    assert run(capsys, str(tmp_path / "calm"), "--at-risk-within", "30d")[0] == 0
    # 90 days of history carry no forecast of 100 days: not known is not fine.
    assert run(capsys, str(tmp_path / "calm"), "--at-risk-within", "100d")[0] == 3
    write_gauges(tmp_path / "short", {"conntrack": (growing(5), 2000.0)})
    assert run(capsys, str(tmp_path / "short"), "--at-risk-within", "30d")[0] == 3
    assert run(capsys, str(tmp_path / "short"))[0] == 0


def test_what_drops_is_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calm, none = np.full(5, 200.0), 0.0  # counters have no limit
    gauges = {
        "link:eth0:tx": (calm, 1000.0),
        "link_drops:eth0:tx": (np.array([0.0, 0.0, 5.0, 0.0, 0.0]), none),
        "link:eth0:rx": (calm, 1000.0),
        "link_drops:eth0:rx": (np.array([0.0, 0.0, 5.0, 0.0, 0.0]), none),  # also what nobody wanted
        "link:eth1:tx": (calm, 1000.0),
        "link_drops:eth1:tx": (np.zeros(5), none),
        "conntrack": (2 * calm, 1000.0),
        "conntrack_insert_failed": (np.array([0.0, 0.0, 5.0, 0.0, 0.0]), none),
    }
    write_gauges(tmp_path / "t", gauges)
    code, out, _ = run(capsys, str(tmp_path / "t"), "--format", "json")
    document = json.loads(out)
    found = {row["resource"]: (row["status"], row["drops"]) for row in document["resources"]}
    assert code == 1
    assert found["link:eth0:tx"] == ("at risk", 9.0)  # 5 at noon, a fifth less at night
    assert found["link:eth0:rx"] == ("needs more history", 9.0)
    assert found["link:eth1:tx"] == ("needs more history", 0.0)
    assert found["conntrack"] == ("needs more history", None)
    assert document["sentence"].startswith("link:eth0:tx on gw-3 has reached 20% of its limit and dropped 9")


def test_a_listen_queue_is_shown_with_what_it_turned_away(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(SAMPLES / "accept-queue"), "--format", "json")
    (drops,) = (
        row["drops"] for row in json.loads(out)["resources"] if row["resource"] == "listen_queue:10.32.1.2:8000"
    )
    assert code == 1 and drops >= 100


def test_what_is_far_from_its_limit_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {f"sockets:{number}": (np.full(3, 1.0), 1000.0) for number in range(4)}
    write_gauges(tmp_path / "t", {"conntrack": (np.full(3, 300.0), 1000.0)} | small)
    _, out, _ = run(capsys, str(tmp_path / "t"))
    assert "4 resources below 1% of their limits are left out (--all shows them)" in out
    assert "sockets:2" not in out and out.count("a date needs more history") == 1
    _, out, _ = run(capsys, str(tmp_path / "t"), "--all")
    assert "left out" not in out and "sockets:2" in out
    # What all have in common is said once.
    assert out.count("a date needs more history") == 1
    write_gauges(tmp_path / "far", small)
    assert "sockets:0" in run(capsys, str(tmp_path / "far"))[1]


def test_growth_and_lost_hosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flat = np.full(5, 400.0)
    write_gauges(tmp_path / "t", {"conntrack": (flat, 1000.0)})
    _, out, _ = run(capsys, str(tmp_path / "t"), "--growth", "+50%", "--lose", "1", "--hosts", "3", "--format", "json")
    assert json.loads(out)["resources"][0]["share_after"] == pytest.approx(0.4 * 1.5 * 3 / 2)
    code, _, err = run(capsys, str(tmp_path / "t"), "--lose", "1")
    assert code == 2 and "leaves none of 1 hosts" in err


def test_what_is_full_is_at_risk_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gauges(tmp_path / "t", {"conntrack": (np.array([950.0, 999.0]), 1000.0)})
    code, out, _ = run(capsys, str(tmp_path / "t"))
    assert code == 1
    assert out.startswith("conntrack on gw-3 has reached 100% of its limit")


def test_from_flows_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_trace(tmp_path / "t", flows=6000, seconds=900)
    code, out, _ = run(capsys, str(trace), "--format", "json", "--link-speed", "1Gbit/s")
    document = json.loads(out)
    assert code == 0
    assert any("no host table" in note for note in document["notes"])
    total = sum(row["bytes_per_second"] for row in document["services"])
    assert total > 0 and document["bursts"] and document["billing"]
    sent = next(row for row in document["resources"] if row["resource"].startswith("bytes sent"))
    assert sent["limit"] == 125_000_000 and 0 < sent["share"] < 0.1
    ports = next(row for row in document["resources"] if row["resource"].startswith("ports "))
    assert ports["limit"] == 28_232 and ports["peak"] > 1


def test_billing_is_the_five_minute_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def even(columns: dict[str, np.ndarray], generator: np.random.Generator) -> None:
        columns["client_bytes"][:] = 3000
        columns["server_bytes"][:] = 3000

    trace = write_trace(tmp_path / "t", flows=9000, seconds=900, change=even)
    _, out, _ = run(capsys, str(trace), "--format", "json")
    billed = json.loads(out)["billing"][0]["billed_bits_per_second"]
    assert billed == pytest.approx(8 * 10 * 3000, rel=0.05)


@pytest.mark.parametrize("flows", [0, 1])
def test_of_one_row_or_none(flows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_trace(tmp_path / "t", flows=flows, seconds=10)
    code, out, err = run(capsys, str(trace))
    assert "Traceback" not in err and "unexpected" not in err
    assert (code, bool(out)) == ((0, True) if flows else (2, False))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--growth", "lots"], "not a percentage"),
        (["--link-speed", "fast"], "not a speed"),
        (["--at-risk-within", "soon"], "not a duration"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_trace(tmp_path / "t", flows=10, seconds=10)
    code, _, err = run(capsys, str(trace), *arguments)
    assert code == 2 and words in err and err.count("\n") == 1


@pytest.mark.parametrize(("days", "slope"), [(90, 3.0), (150, 2.0)])
def test_the_fan_is_drawn(days: int, slope: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gauges(tmp_path / "t", {"conntrack": (growing(days, slope), 950.0)})
    code, out, _ = run(capsys, str(tmp_path / "t"), "--plot")
    assert code == 1
    assert "conntrack on gw-3: daily peak against its limit" in out
    assert "● daily peak   ○ forecast, 80% interval" in out and "░" in out and "╌" in out


def test_a_long_trace_is_asked_of_its_busiest_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def busy(rows: dict[str, np.ndarray], generator: np.random.Generator) -> None:
        # 24,000 flows in 72 hours from 10:00 on: these are of the second UTC day.
        second = (rows["flow_id"] > 24_000 * 14 / 72) & (rows["flow_id"] < 24_000 * 38 / 72)
        rows["server_bytes"][second] *= 10

    trace = str(write_trace(tmp_path / "t", seconds=72 * 3600, change=busy))
    _, out, _ = run(capsys, trace, "--format", "json")
    long = json.loads(out)
    assert any("those of 2026-11-21, the busiest day" in note for note in long["notes"])
    _, out, _ = run(capsys, trace, "--format", "json", "--since", "2026-11-21", "--until", "2026-11-22", "--utc")
    day = json.loads(out)
    assert not any("busiest day" in note for note in day["notes"])
    for seen, expected in zip(long["services"], day["services"], strict=True):
        assert seen["service"] == expected["service"]
        assert seen["bytes_per_second"] == pytest.approx(expected["bytes_per_second"], rel=0.01)
    # The billing is of all days, and so are the peaks that are forecast.
    assert long["billing"][0]["samples"] == pytest.approx(72 * 12, abs=1)
    ports = [row for row in long["resources"] if row["resource"].startswith("ports ")]
    assert max(row["history_days"] for row in ports) == 4


def loaded(bend: float) -> Change:
    """A load that swings over the trace, and a delay of 5 ms at most that grows from `bend` of the highest load on."""

    def change(rows: dict[str, np.ndarray], generator: np.random.Generator) -> None:
        phase = rows["flow_id"] / 24_000 * 5  # flows are numbered in order of time
        load = 0.55 + 0.45 * np.sin(2 * np.pi * phase)
        rows["client_bytes"] = np.round(load * 10_000)
        rows["server_bytes"] = np.round(load * 90_000)
        rows["rtt_min_us"] = np.full(len(load), 400.0)
        queue = 300 + 5000 / max(1 - bend, 0.1) * np.maximum(load - bend, 0)
        rows["rtt_us"] = np.round(400 + queue * generator.gamma(4, 0.25, len(load)))

    return change


def test_the_load_at_which_queueing_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "bent", change=loaded(0.6))
    _, out, _ = run(capsys, str(tmp_path / "bent"), "--format", "json", "--link-speed", "100Mbit/s")
    document = json.loads(out)
    sent = next(row for row in document["knees"] if row["what"] == "bytes sent")
    assert sent["load"] / sent["highest"] == pytest.approx(0.55, abs=0.15)
    assert sent["share"] == pytest.approx(sent["load"] / 12.5e6)
    assert sent["delay_at_bend"] < 1000 < sent["delay_at_highest"]
    assert any(note.startswith("queueing begins at ") for note in document["notes"])
    # Nothing queues in a link of which a thousandth is used, whatever the flows wait for.
    _, out, _ = run(capsys, str(tmp_path / "bent"), "--format", "json", "--link-speed", "10G")
    assert not any(row["what"].startswith("bytes") for row in json.loads(out)["knees"])


def test_a_delay_that_does_not_bend_is_no_knee(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trace(tmp_path / "flat", change=loaded(1.0))
    _, out, _ = run(capsys, str(tmp_path / "flat"), "--format", "json")
    document = json.loads(out)
    assert document["knees"] == [] and not any("queueing begins" in note for note in document["notes"])
    _, text, _ = run(capsys, str(tmp_path / "flat"))
    assert "no delay bends upwards" in text
