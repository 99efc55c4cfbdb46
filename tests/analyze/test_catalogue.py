"""The promises of every query file: its header, its columns, its order, its examples."""

from __future__ import annotations

import fcntl
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analyze import catalogue, header, reference, run, shared
from analyze.render.csv import _value
from analyze.scan import Scan
from netrec.errors import MissingTableError, QueryError
from recorder.sources.program import program_file
from tests.analyze.conftest import Answer
from tests.analyze.traces import at, batch, everyday, flow, health, write

Run = Callable[..., Answer]
SAMPLES = Path(__file__).parent.parent.parent / "sample_traces"
BUILT_IN = {name: path for name, path in catalogue.paths().items() if path.is_relative_to(catalogue.BUILT_IN)}
QUERIES = sorted(BUILT_IN)


def query_of(name: str) -> header.Query:
    return header.parse(BUILT_IN[name], name)


def samples() -> list[Path]:
    return sorted(path for path in SAMPLES.iterdir() if (path / "flows").is_dir()) if SAMPLES.is_dir() else []


def run_query(name: str, scan: Scan, **parameters: Any) -> run.Result:
    query = query_of(name)
    required = {one.name: one.choices[0] if one.choices else "1" for one in query.parameters if one.default is None}
    return run.run(query, scan, required | parameters, shared.dimensions())


@pytest.mark.parametrize("name", QUERIES)
def test_declared_columns_are_the_actual_ones(name: str, complete: Path) -> None:
    result = run_query(name, Scan([complete]))
    declared = [(column.name, column.type) for column in query_of(name).columns]
    assert [(column.name, column.type) for column in result.columns] == declared
    assert query_of(name).tables, "a query names the tables that it reads"
    assert query_of(name).chart, "a query declares a chart, or none"


@pytest.mark.parametrize("name", QUERIES)
def test_every_choice_of_every_parameter_runs(name: str, complete: Path) -> None:
    scan = Scan([complete])
    for parameter in query_of(name).parameters:
        for choice in parameter.choices:
            run_query(name, scan, **{parameter.name: choice})


@pytest.mark.parametrize("name", QUERIES)
def test_the_order_is_total(name: str, tmp_path: Path) -> None:
    """The same rows in other files and another order give the same answer."""
    answers = []
    for seed in (1, 2):
        generator = random.Random(7)
        rows = [
            flow(
                number,
                number // 3,
                number // 3 + 2,
                client_address=f"10.0.0.{generator.randrange(9)}",
                process_name=generator.choice(["a", "b", None]),
                client_bytes=generator.randrange(3),
            )
            for number in range(200)
        ]
        random.Random(seed).shuffle(rows)
        folder = tmp_path / str(seed)
        for sequence, part in enumerate((rows[:70], rows[70:]), start=seed):
            write(folder, "flows", part, sequence=sequence)
        write_other_tables(folder)
        scan = Scan([folder])
        scan.connection.execute("select 1")
        answers.append(list(run_query(name, scan).rows()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_runs_on_every_sample(name: str) -> None:
    for sample in samples():
        scan = Scan([sample])
        try:
            list(run_query(name, scan).rows())
        except MissingTableError as missing:
            assert "record with" in str(missing)
        assert not scan.skipped


@pytest.mark.parametrize("name", QUERIES)
def test_examples_run_and_give_the_expected_rows(name: str) -> None:
    examples = query_of(name).examples
    assert examples
    for example in examples:
        assert bool(example.expect) != example.empty, "an example says what it gives"
        result = run_query(name, Scan([SAMPLES / example.sample]), **example.parameters)
        rows = [
            tuple(str(_value(value, column)) for value, column in zip(row, result.columns, strict=True))
            for row in result.rows()
        ]
        for row, expected in zip(rows, example.expect, strict=False):
            for value, wanted in zip(row, expected, strict=False):
                assert wanted in ("...", value), f"{name}: expected {expected}, got {row}"
        assert len(rows) >= len(example.expect)
        assert not (example.empty and rows)


@pytest.mark.parametrize("name", QUERIES)
def test_help_and_every_format(name: str, netrec: Run, complete: Path) -> None:
    answer = netrec("analyze", name, "--help")
    assert answer.code == 0
    assert query_of(name).summary in " ".join(answer.out.split())
    for format in ("table", "json", "ndjson", "csv", "markdown"):
        assert netrec("analyze", name, complete, "--format", format).code in (0, 2)


def test_generated_pages_are_fresh() -> None:
    assert reference.main(["--check"]) == 0, "run python -m analyze.reference"


def test_the_list_names_every_query(netrec: Run) -> None:
    listed = [line.split("\t")[0] for line in netrec("analyze", "--list").out.splitlines()]
    assert set(QUERIES) <= set(listed)
    assert all(name in netrec("analyze", "--help").out for name in QUERIES)


def test_a_folder_of_own_queries_becomes_commands(netrec: Run, trace: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "team"
    own.mkdir(parents=True)
    (own / "big.sql").write_text(
        "-- Large flows.\n--\n-- @table flows\n-- @param least integer = 5000: bytes at least\n"
        "-- @param wait duration = 2s: not used\n-- @param after time = none: rows after\n"
        "-- @column server_port INTEGER: port\n-- @column total BIGINT bytes: bytes\n"
        "select server_port, sum(bytes)::BIGINT as total from flow where bytes >= $least and $wait > 0\n"
        "and ($after is null or end_time > $after::timestamptz) group by all order by 1\n"
    )
    answer = netrec("analyze", "team/big", trace, "--queries", own.parent, "--format", "csv")
    assert answer.out == "server_port,total\n443,30005900\n"
    answer = netrec(
        "analyze", "team/big", trace, "--queries", own.parent, "--format", "csv", "--after", "20:00:15", "--utc"
    )
    assert answer.out == "server_port,total\n443,20000000\n"
    config = tmp_path / "config" / "netrec" / "queries"
    config.mkdir(parents=True)
    (config / "mine.sql").write_text(
        "-- Mine.\n-- @table flows\n-- @column n BIGINT: rows\nselect count(*) as n from flow\n"
    )
    assert netrec("analyze", "mine", trace, "--format", "csv").out == "n\n8\n"
    assert "mine" in netrec("analyze", "--list").out


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-- @colunm a BIGINT: x", "unknown tag @colunm"),
        ("-- @column A-1 BIGINT: x", "malformed @column"),
        ("-- @column a BIGINT parsecs: x", "unknown unit"),
        ("-- @param n intger = 1: x", "unknown type"),
        ("-- @param n integer = 1", "malformed @param"),
        ("-- @param n choice = 1: x", "takes a list of choices"),
        ("-- @param n integer(1, 2) = 1: x", "does not take"),
        ("-- @param n choice(a, b) = c: x", "not one of the choices"),
        ("-- @chart pie x=one", "unknown chart"),
        ("-- @chart bar x=two", "is no column"),
        ("-- @expect 1", "before any @example"),
        ("-- @example", "malformed @example"),
        ("-- @table Flows; drop", "malformed name"),
        ("-- @column one BIGINT: again", "declared twice"),
    ],
)
def test_a_malformed_line_is_refused_with_its_place(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.sql"
    path.write_text(f"-- A query.\n--\n-- @column one BIGINT: one\n{line}\nselect 1 as one\n")
    with pytest.raises(QueryError, match=reason) as raised:
        header.parse(path, "bad")
    assert str(path) in str(raised.value)


def test_a_query_file_cannot_write(netrec: Run, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.sql").write_text(
        f"-- Evil.\n-- @table flows\n-- @column one BIGINT: x\nselect 1; copy (select 1) to '{trace}/x.csv'\n"
    )
    answer = netrec("analyze", "evil", trace, "--queries", tmp_path)
    assert answer.code == 2
    assert "2 statements" in answer.err
    assert not (trace / "x.csv").exists()


def write_other_tables(folder: Path) -> None:
    write(folder, "health", [health(0, 60)])
    kinds = ("retransmit", "connect_failed", "listen_overflow", "dns_query")
    events = [
        {"time": at(number), "kind": kinds[number % 4], "count": number + 1, "name": "example.com", "flow_id": number}
        | {"client_address": "10.0.0.1", "server_address": "10.0.0.9", "server_port": 443, "host": "web-1"}
        for number in range(20)
    ]
    write(folder, "events", events)
    gauges = [
        {
            "time": at(second),
            "resource": resource,
            "used": float(second),
            "limit": 100.0,
            "unit": "count",
            "host": "web-1",
        }
        for second in range(60)
        for resource in ("conntrack", "link:eth0:rx")
    ]
    write(folder, "host", gauges)
    for path in sorted(program_file.BUILT_IN.glob("*.bpf.c")):
        program = program_file.load(str(path))
        table = program.annotation.table
        rows = [{table.time_column: at(number % 9), "host": "web-1"} for number in range(20)]
        write(folder, table.name, rows, definitions={table.name: program.definition})


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace with every table."""
    folder = everyday(tmp_path_factory.mktemp("complete") / "trace")
    write_other_tables(folder)
    return folder


def test_a_running_capture_is_read_from_its_spool(netrec: Run, trace: Path) -> None:
    import pyarrow as pa

    from netrec.trace import layout, metadata, tables

    folder = layout.spool_folder(trace, "web-1", "20261122T200100Zcccccc")
    folder.mkdir(parents=True)
    about = metadata.encode(metadata.CaptureMetadata("web-1", "20261122T200100Zcccccc", "ebpf"))
    path = folder / "flows-000001.arrows"
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(str(path), tables.FLOWS.schema.with_metadata(about), options=options) as writer:
        for number in range(3):
            rows = [
                flow(100 + number, 61 + number, 62 + number, process_name=f"live-{number}", flow_end_reason="active")
            ]
            writer.write_batch(batch("flows", rows))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 60])  # the last batch is being written
    answer = netrec(
        "sql", "select process_name from flow where process_name like 'live%' order by 1", trace, "--format", "csv"
    )
    assert answer.out.startswith("process_name\nlive-0\nlive-1\n"), answer
    assert "was killed, its last second may be missing: finish it with netrec repair" in answer.err
    with (folder / layout.LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        table = netrec("analyze", "top-talkers", trace)
    assert "capture web-1-20261122T200100Zcccccc is still recording: its last second may be missing" in table.out
    last = netrec("analyze", "summary", trace, "--last", "1500ms", "--format", "ndjson")
    assert last.code == 0
    assert "left over" in netrec("inspect", trace).out
    assert "netrec repair" in netrec("verify", trace).err
    finished = [flow(100 + number, 61, 62, process_name=f"live-{number}") for number in range(3)]
    write(trace, "flows", finished, sequence=1, capture="20261122T200100Zcccccc", opened=at(60))
    count = netrec("sql", "select count(*) as n from flows where process_name like 'live%'", trace, "--format", "csv")
    assert count.out == "n\n3\n"  # the spool that became a file is not read twice


def test_thousands_of_files_open(tmp_path: Path) -> None:
    first = write(tmp_path, "flows", [flow(1, 1, 2)], sequence=1)
    for sequence in range(2, 301):
        first.with_name(first.name.replace("-000001", f"-{sequence:06d}")).write_bytes(first.read_bytes())
    scan = Scan([tmp_path])
    assert scan.has("flows")
    assert scan.fetch("select count(*) from flows") == [(300,)]
