"""The everyday queries: on traces of a row and of none, and against what is known of samples and of small ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from analyze import catalogue, render
from analyze.scan import Scan
from tests.analyze.conftest import Answer
from tests.analyze.traces import flow, health, write

Run = Callable[..., Answer]
WEB_DAY = Path(__file__).parent.parent.parent / "sample_traces" / "web-day"
QUERIES = sorted(name for name, path in catalogue.paths().items() if path.is_relative_to(catalogue.BUILT_IN))


def rows_of(answer: Answer) -> list[dict[str, object]]:
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


def test_there_are_as_many_as_the_field_asks_for() -> None:
    assert len(QUERIES) >= 25


@pytest.mark.parametrize("name", QUERIES)
def test_a_trace_of_one_row_or_of_none_is_answered_or_refused_in_a_sentence(
    name: str, netrec: Run, tmp_path: Path
) -> None:
    write(tmp_path / "one", "flows", [flow(1, 1, 1, rtt_us=None, process_name=None)])
    write(tmp_path / "none", "flows", [])
    write(tmp_path / "none", "health", [])
    for trace in ("one", "none"):
        for form in ([], ["--plot"]):
            answer = netrec("analyze", name, tmp_path / trace, *form)
            assert answer.code in (0, 2), (trace, form, answer)
            assert "unexpected" not in answer.err and "check the SQL" not in answer.err, answer.err
            if answer.code == 2:
                assert answer.err.count("\n") == 1
                assert "record with" in answer.err or "no chart" in answer.err or "no health table" in answer.err


def test_the_web_day_is_told_as_it_was(netrec: Run) -> None:
    known = json.loads((WEB_DAY / "known.json").read_text())
    edges = rows_of(netrec("analyze", "service-map", WEB_DAY, "-n", "0", "--format", "ndjson"))
    users = [edge for edge in edges if edge["port"] == 80 and edge["client"] != "10.20.3.1"]
    assert sum(int(str(edge["flows"])) for edge in users) == known["users"]["connections"]
    failures = rows_of(netrec("analyze", "connection-failures", WEB_DAY, "--format", "ndjson"))
    assert [row["failures"] for row in failures] == [known["users"]["application_refused"]]
    largest = rows_of(netrec("analyze", "elephants", WEB_DAY, "-n", "1", "--format", "ndjson"))[0]
    assert (largest["client_bytes"], largest["server_bytes"]) == tuple(known["backup"].values())
    between = rows_of(netrec("analyze", "process-map", WEB_DAY, "--format", "ndjson"))
    found = {(row["client_process"], row["server_process"]) for row in between}
    assert {("curl", "nginx"), ("nginx", "python"), ("python", "redis-server")} <= found


def test_concurrency_counts_what_is_open_at_once(netrec: Run, tmp_path: Path) -> None:
    rows = [flow(1, 0, 10), flow(2, 5, 15), flow(3, 5, 6), flow(4, 30, 30)]
    write(tmp_path, "flows", rows)
    found = rows_of(netrec("analyze", "concurrency", tmp_path, "--bin", "10s", "--format", "ndjson"))
    assert [(row["peak"], row["opened"], row["closed"]) for row in found] == [
        (3, 3, 1),
        (1, 0, 2),
        (0, 0, 0),
        (1, 1, 1),
    ]


def test_billing_drops_the_highest_bins(netrec: Run, tmp_path: Path) -> None:
    # 40 bins of a second with 1..40 kB received: 5% of 40 are two bins.
    rows = [flow(n, n - 1, n - 0.5, client_bytes=0, server_bytes=n * 1000) for n in range(1, 41)]
    write(tmp_path, "flows", rows)
    found = rows_of(netrec("analyze", "billing", tmp_path, "--bin", "1s", "--format", "ndjson"))
    assert [(row["direction"], row["bins"], row["dropped"], row["billed"]) for row in found] == [
        ("received", 40, 2, 38_000 * 8),
        ("sent", 40, 2, 0),
    ]


def test_retransmits_of_both_ends_of_a_local_path_count(netrec: Run, tmp_path: Path) -> None:
    client = flow(1, 0, 5, client_retransmits=3, server_retransmits=None)
    server = flow(
        2, 0, 5, client_port=40001, client_retransmits=None, server_retransmits=4, duplicate=True, role="server"
    )
    write(tmp_path, "flows", [client, server])
    found = rows_of(netrec("analyze", "retransmits-by-path", tmp_path, "--format", "ndjson"))
    assert [(row["retransmits"], row["packets"], row["flows"], row["flows_with"]) for row in found] == [(7, 5, 1, 1)]


def test_ports_wait_after_the_end(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path, "flows", [flow(n, n * 30, n * 30 + 1) for n in range(4)])
    found = rows_of(netrec("analyze", "port-use", tmp_path, "--format", "ndjson"))
    assert found[0]["peak"] == 3  # at 60 s the first one still waits until 61 s


def test_what_is_new_after_a_moment(netrec: Run, tmp_path: Path) -> None:
    rows = [
        flow(1, 0, 1),
        flow(2, 20, 21),
        flow(3, 30, 31, server_port=8443),
        flow(4, 40, 41, client_address="10.0.0.7"),
    ]
    write(tmp_path, "flows", rows)
    answer = netrec("analyze", "new-since", tmp_path, "--after", "20:00:10", "--utc", "--format", "ndjson")
    found = [(row["client"], row["service"], row["new_service"]) for row in rows_of(answer)]
    assert found == [("10.0.0.1", "10.0.0.9:8443", True), ("10.0.0.7", "10.0.0.9:443", False)]


def test_gaps_are_named(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path, "health", [health(0, 10), health(10, 20, kind="gap", reason="disk full")])
    found = rows_of(netrec("analyze", "gaps", tmp_path, "--format", "ndjson"))
    assert [(row["length"], row["reason"]) for row in found] == [(10_000_000, "disk full")]


def test_quantiles_are_within_one_percent(trace: Path) -> None:
    scan = Scan([trace])
    scan.require("flows")
    values = "select (i * i)::BIGINT as v from range(1, 3000) as t(i)"
    for part in (0.01, 0.5, 0.95, 0.999):
        sql = f"select quantile_disc(v, {part}), histogram_quantile(histogram(log_bucket(v)), {part}) from ({values})"
        exact, estimate = scan.fetch(sql)[0]
        assert estimate == pytest.approx(exact, rel=0.0101)


def test_drawings(netrec: Run, trace: Path, tmp_path: Path) -> None:
    bars = netrec("analyze", "top-talkers", trace, "--plot")
    assert bars.code == 0 and "10.0.0.1 -> 10.0.0.9" in bars.out and "█" in bars.out
    assert all(len(line) <= 100 for line in bars.out.splitlines())
    for name, begin in (("chart.svg", b"<?xml"), ("chart.png", b"\x89PNG")):
        assert netrec("analyze", "timeline", trace, "-o", tmp_path / name).code == 0
        assert (tmp_path / name).read_bytes().startswith(begin)
    assert "<title>" in (tmp_path / "chart.svg").read_text()
    for form, begin in (("graphviz", "digraph"), ("mermaid", "flowchart LR")):
        answer = netrec("analyze", "service-map", trace, "--format", form)
        assert answer.code == 0 and answer.out.startswith(begin)
        refused = netrec("analyze", "top-talkers", trace, "--format", form)
        assert refused.code == 2 and "has no graph" in refused.err
    assert "exclude each other" in netrec("analyze", "timeline", trace, "--plot", "--format", "csv").err
    assert render.format_of("a.csv") == "csv" and render.format_of("a.txt") == render.format_of(None) == "table"
