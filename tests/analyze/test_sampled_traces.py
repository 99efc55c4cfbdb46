"""A sampled trace answers as the whole one does, within the error that it states itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from analyze import catalogue, context, run, shared
from analyze.result import Result
from analyze.scan import Scan
from recorder.sampling import thin
from recorder.sources.synthetic.flows import flow_batches
from recorder.sources.synthetic.history import write_batches
from tests.analyze.conftest import Answer
from tests.analyze.traces import flow, health, write
from tests.support.analysis_traces import START

Run = Callable[..., Answer]
FLOWS, INTERVAL = 24_000, 8
COUNTED = ("flows", "connections", "sessions", "failures", "opened", "closed", "resets", "connect_failures")
MEASURED = ("bytes", "client_bytes", "server_bytes", "packets", "retransmits", "received", "sent")
# What they list, find or rank are single flows, pairs and moments; of the others some parts are too small to hold to.
LISTS = {"elephants", "flows", "long-lived", "new-since", "sessions", "port-use", "idle-services", "one-way-flows"}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same flows, all of them and a sample."""
    folder = tmp_path_factory.mktemp("sampled")
    batches = list(flow_batches(FLOWS, seed=7, start=START, duration=240.0))
    write_batches(folder / "whole", batches, start=START, duration=240.0, host="h")
    kept = [thin(batch, INTERVAL) for batch in batches]
    write_batches(folder / "sample", kept, start=START, duration=240.0, host="h")
    return folder / "whole", folder / "sample"


def answer(name: str, scan: Scan) -> Result:
    query = catalogue.load(name)
    given = {one.name: "1000000" for one in query.parameters if one.name == "n"}
    given |= {one.name: one.choices[0] if one.choices else "1" for one in query.parameters if one.default is None}
    return run.run(query, scan, given, shared.dimensions())


def sums(result: Result) -> dict[str, float]:
    names = [column.name for column in result.columns if column.name in COUNTED + MEASURED]
    rows = result.arrow().to_pylist()
    return {name: float(sum(row[name] or 0 for row in rows)) for name in names}


@pytest.fixture(scope="module")
def scans(traces: tuple[Path, Path]) -> list[Scan]:
    return [Scan([trace]) for trace in traces]


def of_flows() -> list[str]:
    return sorted(name for name in catalogue.paths().keys() - LISTS if list(catalogue.load(name).tables) == ["flows"])


@pytest.mark.parametrize("name", of_flows())
def test_sums_are_those_of_the_whole(name: str, scans: list[Scan]) -> None:
    whole, estimated = (sums(answer(name, scan)) for scan in scans)
    stated = context.of(scans[1]).sampling_error
    assert whole.keys() == estimated.keys()
    for column, true in whole.items():
        if column in COUNTED:
            # Four standard deviations of a binomial sample, scaled up.
            allowed = 4 * math.sqrt(true * (INTERVAL - 1)) + INTERVAL
        else:
            allowed = 2 * stated["bytes"] * true + INTERVAL * 1000
        assert abs(estimated[column] - true) <= allowed, column


def test_the_stated_error_is_what_a_sample_is_off_by(traces: tuple[Path, Path]) -> None:
    scan = Scan([traces[1]])
    scan.require("flows")
    found = context.of(scan)
    assert (found.least_sampling, found.sampling) == (INTERVAL, INTERVAL)
    expected = 1.96 * math.sqrt((INTERVAL - 1) / FLOWS)
    assert found.sampling_error["flows"] == pytest.approx(expected, rel=0.1)
    assert found.sampling_error["flows"] < found.sampling_error["bytes"] < 0.5


def test_ten_samples_lie_within_the_stated_error() -> None:
    """95 of 100 intervals hold the truth: of ten times two, 16 at least."""
    batches = list(flow_batches(FLOWS, seed=3, start=START, duration=240.0))
    hits = 0
    whole = pa.Table.from_batches(batches)
    true = sum_of(whole)
    for number in range(10):
        shifted = [renumbered(batch, number * 1_000_003) for batch in batches]
        table = pa.Table.from_batches([thin(batch, INTERVAL) for batch in shifted])
        size, error = estimate(table)
        hits += abs(size - true) <= error
        hits += abs(table.num_rows * INTERVAL - whole.num_rows) <= 1.96 * math.sqrt(7 * whole.num_rows)
    assert hits >= 16


@pytest.mark.parametrize("alike", [True, False])
def test_rows_that_hold_many_flows_state_the_error_of_as_many_choices(tmp_path: Path, alike: bool) -> None:
    """Of sixteen samples of gathered flows about 15 lie within what is stated, which is no more than it must be."""
    generator = np.random.default_rng(5)
    sizes = np.full(40_000, 400) if alike else generator.lognormal(6, 1, 40_000).astype(np.int64)
    interval, rows = 16, 50
    services = np.arange(len(sizes)) % rows
    hits, stated = 0, 0.0
    for number in range(16):
        kept = generator.random(len(sizes)) < 1 / interval
        held = np.bincount(services[kept], minlength=rows)
        size = np.bincount(services[kept], sizes[kept], rows)
        counted = [
            {"client_bytes": int(size[row]), "server_bytes": 0, "flow_count": int(held[row])} for row in range(rows)
        ]
        write(
            tmp_path / str(number),
            "flows",
            [flow(row + 1, 0, 1, sampling_interval=interval, **counted[row]) for row in range(rows)],
        )
        scan = Scan([tmp_path / str(number)])
        scan.require("flows")
        stated = context.of(scan).sampling_error["bytes"]
        hits += abs(size.sum() * interval / sizes.sum() - 1) <= stated
    assert hits >= 13
    dispersion = 0 if alike else sizes.std() / sizes.mean()
    expected = 1.96 * math.sqrt((interval - 1) * (1 + dispersion**2) / len(sizes))
    assert stated == pytest.approx(expected, rel=0.25)


def sum_of(table: pa.Table) -> int:
    return sum(sum(value or 0 for value in table.column(name).to_pylist()) for name in ("client_bytes", "server_bytes"))


def renumbered(batch: pa.RecordBatch, shift: int) -> pa.RecordBatch:
    place = batch.schema.get_field_index("flow_id")
    ids = pa.array([value + shift for value in batch.column("flow_id").to_pylist()], pa.int64())
    return batch.set_column(place, batch.schema.field(place), ids)


def estimate(table: pa.Table) -> tuple[float, float]:
    flows: dict[int, int] = {}
    columns = [table.column(name).to_pylist() for name in ("flow_id", "client_bytes", "server_bytes")]
    for number, sent, received in zip(*columns, strict=True):
        flows[number] = flows.get(number, 0) + (sent or 0) + (received or 0)
    variance = sum(INTERVAL * (INTERVAL - 1) * value**2 for value in flows.values())
    return INTERVAL * float(sum(flows.values())), 1.96 * math.sqrt(variance)


def test_quantiles_count_a_flow_for_what_it_stands_for(netrec: Run, tmp_path: Path) -> None:
    """Ninety fast flows of which one in nine was recorded, and ten slow ones that all were: the median is fast."""
    fast = [flow(number, 0, 1, connect_latency_us=100, sampling_interval=9) for number in range(1, 11)]
    slow = [flow(number, 0, 1, connect_latency_us=9000) for number in range(11, 23)]
    write(tmp_path / "t", "flows", fast + slow)
    found = json.loads(netrec("analyze", "latency-by-service", tmp_path / "t", "--format", "json").out)["rows"][0]
    assert found["connect_p50"] == pytest.approx(100, rel=0.02)
    assert found["connect_p95"] == pytest.approx(9000, rel=0.02)
    assert found["flows"] == 102


def test_flows_that_share_a_row_are_counted_and_not_listed_as_one(netrec: Run, tmp_path: Path) -> None:
    together = flow(
        1, 0, 5, client_port=None, client_bytes=400, server_bytes=4000, flow_count=40, flow_duration_us=2000
    )
    write(tmp_path / "t", "flows", [together, flow(2, 0, 5)])

    def first(*arguments: str) -> dict[str, object]:
        return json.loads(netrec("analyze", *arguments, tmp_path / "t", "--format", "json").out)["rows"][0]

    assert (first("summary")["flows"], first("summary")["bytes"]) == (41, 4400 + 1000)
    assert first("churn")["life_p50"] == pytest.approx(2000, rel=0.02)
    assert {
        row["size"]: row["flows"]
        for row in rows_of(netrec("analyze", "flow-sizes", tmp_path / "t", "--format", "json"))
    } == {
        "100 B and more": 40,
        "1 kB and more": 1,
    }
    assert len(rows_of(netrec("analyze", "elephants", tmp_path / "t", "--format", "json"))) == 1
    assert (
        max(row["peak"] for row in rows_of(netrec("analyze", "concurrency", tmp_path / "t", "--format", "json"))) == 1
    )


def rows_of(found: Answer) -> list[dict[str, object]]:
    assert found.code == 0, found.err
    return json.loads(found.out)["rows"]


def test_every_answer_says_that_it_rests_on_a_sample(netrec: Run, traces: tuple[Path, Path]) -> None:
    sample = traces[1]
    line = "sampled 1 in 8: sums are estimates (all flows +-3"
    assert line in netrec("analyze", "top-talkers", sample).out
    assert line in netrec("analyze", "top-talkers", sample, "--format", "csv").err
    assert line in netrec("sql", "select sum(bytes) from flow", sample).out
    for analysis in ("capacity", "incident", "security"):
        assert line in netrec("analyze", analysis, sample).out, analysis
    assert line in netrec("analyze", "compare", sample, sample).out
    envelope = json.loads(netrec("analyze", "summary", sample, "--format", "json").out)
    assert (envelope["sampling"], envelope["sampling_least"]) == (8, 8)
    assert 0.03 < envelope["sampling_error"]["flows"] < 0.04
    assert "sampled" not in netrec("analyze", "top-talkers", traces[0]).out


def test_lists_show_flows_as_they_were_recorded(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path / "t", "flows", [flow(1, 0, 1, sampling_interval=10)])
    for name in ("flows", "elephants", "long-lived"):
        row = rows_of(netrec("analyze", name, tmp_path / "t", "--format", "json"))[0]
        assert row.get("bytes", row.get("server_bytes")) in (1000, 900, 1000), name


def test_what_the_recorder_left_undone_is_said(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path / "t", "flows", [flow(1, 0, 1), flow(2, 20, 21)])
    steps = [
        health(0, 5, kind="degraded", reason="CPU 3.1% is over 2%: sampling 1 in 2"),
        health(9, 10, kind="restored", reason="CPU 0.9%: no sampling"),
    ]
    write(tmp_path / "t", "health", steps)
    out = netrec("analyze", "summary", tmp_path / "t").out
    assert "the recorder changed how much it does 2 times from" in out
    assert "last, restored: CPU 0.9%: no sampling" in out
    early = netrec("analyze", "summary", tmp_path / "t", "--until", "20:00:07", "--utc").out
    assert "the recorder degraded at 2026-11-22 20:00:05: CPU 3.1% is over 2%: sampling 1 in 2" in early
    answers = json.loads(netrec("analyze", "summary", tmp_path / "t", "--format", "json").out)
    assert [step["kind"] for step in answers["steps"]] == ["degraded", "restored"]
