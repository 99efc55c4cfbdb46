"""`netrec analyze compare` from end to end: verdicts, where a change comes from, refusals, and its machine forms."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import queries
from analyze.compare import measure
from netrec.cli import main
from tests.analyze.traces import at, flow, write
from tests.support.analysis_traces import later, write_trace


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["analyze", "compare", *arguments])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out, captured.err


def slow_database(columns: dict[str, np.ndarray], generator: np.random.Generator) -> None:
    hit = columns["server_port"] == 5432
    columns["connect_latency_us"][hit] = columns["connect_latency_us"][hit] * 2 + 1000


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("compare")
    made = {
        "before": write_trace(folder / "before"),
        "after": write_trace(folder / "after", start=later(60)),
        "slow": write_trace(folder / "slow", start=later(60), change=slow_database),
        "one": write_trace(folder / "one", flows=1, seconds=1),
    }
    return {name: str(path) for name, path in made.items()}


def test_a_slower_service_is_found_and_named(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, traces["before"], traces["slow"], "--metric", "connect_p50")
    assert code == 1
    assert out.startswith("Regressed: connect latency, median +")
    assert "in port 5432" in out.splitlines()[0]


def test_the_forest_and_the_distributions_are_drawn(
    traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = run(capsys, traces["before"], traces["slow"], "--plot", "--metric", "connect_p50")
    assert code == 1 and "Regressed: " in said
    assert "Change with its 95% interval" in out and "Share of the whole change" in out
    assert out.count("● baseline   ○ candidate") == 2
    drawing = tmp_path / "chart.svg"
    assert run(capsys, traces["before"], traces["slow"], "-o", str(drawing))[0] == 1
    root = ElementTree.fromstring(drawing.read_text())
    titles = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "ink title"]
    assert [title.split(":")[0] for title in titles if title][-2:] == ["Connect latency", "Round-trip time"]


def test_the_same_traffic_passes(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, traces["before"], traces["after"], "--fail-on", "connect_p50", "--fail-on", "rtt_p50")
    assert code == 0, out
    assert out.startswith("Pass: ")


def test_a_file_whose_latencies_cannot_be_read_is_left_out(
    traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first pass reads no latency: only the second one meets the damage."""
    whole = write_trace(tmp_path / "whole")
    other = write_trace(tmp_path / "other", flows=50)
    (good,) = (other / "flows").rglob("*.parquet")
    content = bytearray(good.read_bytes())
    chunks = pq.read_metadata(good).row_group(0)
    chunk = next(c for c in map(chunks.column, range(chunks.num_columns)) if c.path_in_schema == "rtt_us")
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    for place in range(start, start + chunk.total_compressed_size):
        content[place] ^= 0x55
    bad = whole / good.relative_to(other)
    bad = bad.with_name(bad.name.replace("-000001", "-000002"))
    bad.write_bytes(content)
    code, out, said = run(capsys, str(whole), traces["after"], "--fail-on", "connect_p50", "--fail-on", "rtt_p50")
    assert code == 0, out + said
    assert out.startswith("Pass: ")
    assert bad.name in said and "Traceback" not in said


def test_a_flow_without_a_round_trip_has_no_queueing_delay() -> None:
    rows = "(values (null, null), (5000, null), (5000, 3000), (3000, 3000)) as t(rtt_us, rtt_min_us)"
    found = duckdb.sql(f"select {measure.HISTOGRAMS['queueing']} from {rows}").fetchall()
    assert [delay for (delay,) in found] == [None, None, 2000, 0]


def test_strata_are_services_peer_networks_and_directions() -> None:
    def combination(client: str | None, role: str, port: int | None = 443) -> dict[str, object]:
        return {"server_port": port, "server_name": None, "role": role, "client_address": client,
                "server_address": "2001:db8:0:0:5::1", "count": 1}  # fmt: skip

    side = pl.DataFrame(
        [
            combination("10.1.2.3", "server"),
            combination("10.1.2.4", "server"),
            combination("fd30:1:2:3::5", "server"),
            combination("fd30:1:2:3:9::7", "server"),
            combination("fd30:1:2:4::5", "server"),
            combination("10.1.2.3", "client"),
            combination(None, "server", None),
            combination("not:an:address", "server"),
        ]
    )
    (named,) = measure.name_strata(side)
    assert named["stratum"].to_list() == [
        "443 | 10.1.2 | server",
        "443 | 10.1.2 | server",
        "443 | fd30:1:2:3::/64 | server",
        "443 | fd30:1:2:3::/64 | server",
        "443 | fd30:1:2:4::/64 | server",
        "443 | 2001:db8::/64 | client",
        "* | ? | server",
        "443 | not:an:address | server",
    ]


def test_improvement_is_the_mirror(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, traces["slow"], traces["before"], "--metric", "connect_p50")
    assert code == 0
    assert out.startswith("Improved: ")


def test_two_windows_of_one_trace(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    windows = ["--baseline", "10:00/10:02", "--candidate", "10:02/10:04", "--utc", "--metric", "rtt_p50"]
    code, out, _ = run(capsys, traces["before"], *windows, "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert document["baseline"]["since"] == "2026-11-20T10:00:00Z" or document["baseline"]["seconds"] <= 120
    assert document["baseline"]["rows"] + document["candidate"]["rows"] == 24_000


def test_json_is_as_its_schema_says(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, traces["before"], traces["slow"], "--format", "json")
    _, schema, _ = run(capsys, "--schema")
    rules = json.loads(schema)
    conforms(json.loads(out), rules, rules["$defs"])
    with pytest.raises(AssertionError):
        conforms({**json.loads(out), "verdict": "fine"}, rules, rules["$defs"])


def conforms(value: Any, rule: dict[str, Any], definitions: dict[str, Any]) -> None:
    """The part of JSON Schema that ours uses."""
    if "$ref" in rule:
        return conforms(value, definitions[rule["$ref"].rsplit("/", 1)[1]], definitions)
    if "const" in rule:
        assert value == rule["const"]
    if "enum" in rule:
        assert value in rule["enum"]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool}
    names = [rule["type"]] if isinstance(rule.get("type"), str) else rule.get("type", [])
    if names:
        assert any(value is None if name == "null" else isinstance(value, kinds[name]) for name in names), (value, rule)
    if isinstance(value, dict):
        assert set(rule.get("required", [])) <= set(value)
        assert set(value) <= set(rule["properties"])
        for name, entry in value.items():
            conforms(entry, rule["properties"][name], definitions)
    if isinstance(value, list):
        for entry in value:
            conforms(entry, rule["items"], definitions)


def test_junit_counts_regressions_as_failures(
    traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.xml"
    run(capsys, traces["before"], traces["slow"], "--junit", str(report))
    suite = ElementTree.parse(report).getroot()
    assert suite.get("tests") == "10"
    failed = {case.get("name") for case in suite if case.find("failure") is not None}
    assert "connect_p50" in failed
    assert int(suite.get("failures", "0")) == len(failed)


def test_markdown_for_a_pull_request(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, traces["before"], traces["slow"], "--format", "markdown")
    assert out.startswith("**Regressed: ")
    assert "\n### Metrics\n\n| metric |" in out


def test_rows_alone_for_programs(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, traces["before"], traces["slow"], "--format", "csv")
    assert out.splitlines()[0].startswith("metric,baseline,candidate")
    assert "Regressed" in err


def test_a_threshold_of_ones_own(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(capsys, traces["before"], traces["slow"], "--metric", "connect_p50", "--delta", "400%")
    assert code in (0, 3)


def test_too_little_is_inconclusive_and_never_a_traceback(
    traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, traces["before"], traces["one"])
    assert code == 3 and out.startswith("Inconclusive: ")
    code, _, err = run(capsys, traces["before"], traces["before"], "--since", "2030-01-01")
    assert code == 2 and "Traceback" not in err and err.count("\n") == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, err = run(capsys, traces["before"], str(empty))
    assert code == 2 and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "nonsense"], "no metric 'nonsense'"),
        (["--delta", "much"], "not a percentage"),
        (["--by", "colour"], "no dimension 'colour'"),
        (["--fail-on", "bytes_per_second"], "informational"),
    ],
)
def test_usage_errors_are_one_sentence(
    traces: dict[str, str], arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, traces["before"], traces["after"], *arguments)
    assert code == 2
    assert words in err and err.count("\n") == 1


def test_nothing_to_compare_with(traces: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, traces["before"])
    assert code == 2 and "--baseline START/END" in err


def test_different_filters_are_refused(
    traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from recorder.sources.synthetic import history

    original = history.metadata.CaptureMetadata
    monkeypatch.setattr(history.metadata, "CaptureMetadata", lambda **given: original(**given, filter="port 443"))
    filtered = write_trace(tmp_path / "filtered", flows=500, seconds=100, start=later(60))
    code, _, err = run(capsys, traces["before"], str(filtered))
    assert code == 2
    assert "the filters differ" in err


def test_a_new_edge_is_told(traces: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def moved(columns: dict[str, np.ndarray], generator: np.random.Generator) -> None:
        columns["server_port"][columns["server_port"] == 6379] = 6390

    other = write_trace(tmp_path / "moved", start=later(60), change=moved)
    _, out, _ = run(capsys, traces["before"], str(other), "--format", "json")
    edges = json.loads(out)["edges"]
    assert {edge["change"] for edge in edges} == {"new", "vanished"}
    assert all(edge["service"].endswith(":6390") for edge in edges if edge["change"] == "new")


def test_lives_are_judged_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Connections that live 20 ms instead of 10; each side has one that is still open, which has no life yet."""
    for name, life in (("before", 0.010), ("after", 0.020)):
        rows = [flow(number, number / 10, number / 10 + life) for number in range(1000)]
        open_still = flow(1000, 0, 100, tcp_close=None, flow_end_reason="active")
        write(tmp_path / name, "flows", [*rows, open_still])
    sides = (str(tmp_path / "before"), str(tmp_path / "after"))
    code, out, _ = run(capsys, *sides, "--metric", "life_p50", "--format", "json")
    (row,) = json.loads(out)["metrics"]
    assert (code, row["verdict"], row["unit"]) == (1, "regressed", "ms")
    assert (row["baseline"], row["candidate"]) == pytest.approx((10, 20), rel=0.02)
    assert "life_p50" not in run(capsys, *sides, "--format", "json")[1]


def test_the_active_timeouts_in_force_are_read_from_the_health_table() -> None:
    from analyze.compare.measure import quality_of
    from analyze.options import Session

    sample = Path(__file__).resolve().parents[2] / "sample_traces" / "ephemeral-ports"
    with_health = Session(traces=(str(sample),), utc=True).open()
    assert quality_of(with_health, frozenset({1})).active_timeouts == {10.0}


def test_a_client_network_that_fails_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every one of its clients fails a little: the network is one place, its clients are many."""

    def rows(failing: bool) -> list[dict[str, Any]]:
        return [
            flow(
                number, number / 40, number / 40 + 0.01, role="server",
                client_address=f"10.{number % 4}.7.{number % 97 + 1}",
                tcp_close="connect_failed" if failing and number % 4 == 2 and number % 12 < 6 else "fin",
            )
            for number in range(8000)
        ]  # fmt: skip

    before, after = tmp_path / "before", tmp_path / "after"
    write(before, "flows", rows(failing=False))
    write(after, "flows", rows(failing=True))
    code, out, said = run(capsys, str(before), str(after), "--fail-on", "connect_failure_ratio", "--format", "json")
    assert code == 1, out + said
    first = json.loads(out)["slices"][0]
    assert (first["dimension"], first["value"]) == ("network", "10.2.7.0/24")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.2.0/24"),
        ("fd30:1::5", "fd30:1:0:0::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "0:0:0:0::/64"),
        ("fe80::1:2:3:4", "fe80:0:0:0::/64"),
        ("2001:db8:1:2:3::", "2001:db8:1:2::/64"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    connection = duckdb.connect()
    connection.execute((Path(queries.__file__).parent / "_shared" / "dimensions.sql").read_text())
    assert connection.execute("select network_of(?)", [address]).fetchall() == [(network,)]


def test_lives_that_the_window_cuts_count_for_what_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mean of 60 s in two minutes, evenly begun: those that were there and those that remain are cut."""
    generator = np.random.default_rng(12)
    rows = []
    starts, spans = generator.uniform(-180, 120, 9000), generator.exponential(60, 9000)
    for number, (start, life) in enumerate(zip(starts, spans, strict=True)):
        if start + life > 0:
            ended = {} if start + life < 120 else {"flow_end_reason": "forced", "tcp_close": None}
            row = flow(number, max(start, 0), min(start + life, 120), flow_start_time=at(start), **ended)
            rows.append(row | {"client_port": 1000 + number})
    folders = [tmp_path / name for name in ("before", "after")]
    for folder in folders:
        write(folder, "flows", rows)
    _, out, _ = run(capsys, *map(str, folders), "--metric", "duration_p50", "--format", "json")
    (row,) = json.loads(out)["metrics"]
    assert row["verdict"] == "information" and "still open" in row["reason"]
    assert row["baseline"] == row["candidate"] == pytest.approx(60_000 * np.log(2), rel=0.06)
