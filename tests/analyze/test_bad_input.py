"""Whatever is wrong gets one sentence and exit code 2, and what can be answered is answered."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.trace import metadata
from tests.analyze.conftest import Answer
from tests.analyze.traces import HOSTILE, at, flow, health, write

Run = Callable[..., Answer]


def sentence(answer: Answer, *words: str) -> None:
    """One line on stderr that holds the words; exit code 2; nothing on stdout."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert answer.err.startswith("netrec: ")
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    assert "unexpected error" not in answer.err
    for word in words:
        assert word in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--filter", "client_byte > 5"], ["client_byte", "did you mean 'client_bytes'"]),
        (["--filter", "client_bytes >"], ["not an SQL expression"]),
        (["--filter", """ process_name = 'it"s """], ["not an SQL expression"]),
        (["--filter", "true; drop table flows"], ["--filter"]),
        (["--filter", "client_bytes > 'many'"], ["--filter"]),
        (["--filter", "client_bytes in (select 1)"], ["subquery"]),
        (["--filter", "exists(from read_csv('/etc/passwd'))"], ["subquery"]),
        (["--filter", "getenv('HOME') = 'x'"], ["getenv"]),
        (["--filter", "sum(client_bytes) > 5"], ["sum"]),
        (["--filter", "kind = 'retransmit'"], ["flows have no field 'kind'"]),
        (["--since", "20:30", "--until", "20:10", "--utc"], ["ends before it starts"]),
        (["--since", "2026-11-22T20:30", "--until", "2026-11-22T20:10"], ["ends before it starts"]),
        (["--since", "yesterday"], ["not a time"]),
        (["--since", "25:99"], ["not a time"]),
        (["--last", "0s"], ["positive duration"]),
        (["--last", "-5m"], ["not a duration"]),
        (["--last", "5m", "--since", "20:00"], ["--last cannot be combined"]),
        (["--timezone", "Mars/Olympus"], ["unknown time zone"]),
        (["--timezone", "../../etc/passwd"], ["unknown time zone"]),
        (["--utc", "--timezone", "UTC"], ["exclude each other"]),
        (["--by", "colour"], ["'--by'"]),
        (["-n", "-1"], ["negative"]),
        (["-n", "ten"], ["whole number"]),
        (["--format", "xml"], ["'--format'"]),
        (["-o", "/dev/null/x.csv"], ["cannot write"]),
        (["--queries", "/dev/null/none"], ["there is no folder"]),
    ],
)
def test_unusable_options(netrec: Run, trace: Path, arguments: list[str], words: list[str]) -> None:
    sentence(netrec("analyze", "top-talkers", trace, *arguments), *words)


def test_unusable_traces(netrec: Run, trace: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    for command in (["analyze", "summary"], ["sql", "select 1"], ["inspect"], ["verify"]):
        sentence(netrec(*command, tmp_path / "none"), "there is no trace")
        sentence(netrec(*command, tmp_path / "empty"), "holds no trace")
        sentence(netrec(*command, tmp_path / "file"), "is a file")
        sentence(netrec(*command, tmp_path), "it holds traces", "name one of them")


def test_a_missing_table_is_named(netrec: Run, trace: Path) -> None:
    sentence(netrec("sql", "select * from events", trace), "this trace has no events table", "--events")


@pytest.mark.parametrize("name", ["top-talkers", "flows", "timeline", "summary"])
def test_traces_of_one_row_and_of_none(netrec: Run, tmp_path: Path, name: str) -> None:
    write(tmp_path / "none", "flows", [])
    write(tmp_path / "one", "flows", [flow(1, 1, 1)])
    for format in ("table", "json", "csv", "ndjson", "markdown"):
        assert netrec("analyze", name, tmp_path / "none", "--format", format).code == 0
        assert netrec("analyze", name, tmp_path / "one", "--format", format).code == 0
    sentence(netrec("analyze", name, tmp_path / "none", "--last", "5m"), "empty")


def damaged(trace: Path) -> dict[str, Path]:
    """Copies of a good file that are broken in every way, beside it; by what is wrong."""
    good = next((trace / "flows").rglob("*.parquet"))
    content = good.read_bytes()
    broken = {
        "truncated": content[: len(content) // 2],
        "empty file": b"",
        "not a Parquet file": b"hello, world" * 100,
        "not a file of a trace": content,
    }
    made = {}
    for number, (reason, data) in enumerate(broken.items(), start=2):
        name = good.name.replace("-000001", f"-{number:06d}")
        path = good.with_name("notes.parquet" if reason == "not a file of a trace" else name)
        path.write_bytes(data)
        made[reason] = path
    foreign = good.with_name(good.name.replace("-000001", "-000007"))
    pq.write_table(pa.table({"a": [1]}), foreign)
    made["not a netrec file"] = foreign
    table = pq.read_table(good)
    newer = good.with_name(good.name.replace("-000001", "-000008"))
    about = {**table.schema.metadata, b"netrec.format_version": str(metadata.FORMAT_VERSION + 1).encode()}
    pq.write_table(table.replace_schema_metadata(about), newer)
    made[f"trace format {metadata.FORMAT_VERSION + 1}"] = newer
    footer = bytearray(content)
    length = int.from_bytes(content[-8:-4], "little")
    footer[-8 - length : -8 - length + 40] = b"\xff" * 40
    flipped_footer = good.with_name(good.name.replace("-000001", "-000009"))
    flipped_footer.write_bytes(footer)
    made["damaged"] = flipped_footer
    pages = bytearray(content)
    for position in range(4, len(content) - length - 8, 7):
        pages[position] ^= 0x55
    flipped_pages = good.with_name(good.name.replace("-000001", "-000010"))
    flipped_pages.write_bytes(pages)
    made["cannot be read whole"] = flipped_pages
    return made


def test_broken_files_are_named_and_the_others_analysed(netrec: Run, trace: Path) -> None:
    whole = json.loads(netrec("analyze", "top-talkers", trace, "--format", "json").out)["rows"]
    broken = damaged(trace)
    answer = netrec("analyze", "top-talkers", trace, "--format", "json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rows"] == whole
    lines = answer.err.splitlines()
    assert len(lines) == len(broken)
    for reason, path in broken.items():
        assert [line for line in lines if str(path) in line and reason in line], (reason, answer.err)


def test_verify_lists_all_that_is_wrong(netrec: Run, trace: Path) -> None:
    assert netrec("verify", trace).code == 0
    broken = damaged(trace)
    answer = netrec("verify", trace)
    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    for path in broken.values():
        assert str(path) in answer.out


def test_verify_finds_a_single_flipped_bit(netrec: Run, trace: Path) -> None:
    path = next((trace / "flows").rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    pages = pq.ParquetFile(path).metadata.row_group(0).column(14)
    content[(pages.dictionary_page_offset or pages.data_page_offset) + pages.total_compressed_size - 4] ^= 1
    path.write_bytes(content)
    answer = netrec("verify", trace)
    assert answer.code == 1
    assert str(path) in answer.out


def test_verify_finds_a_file_missing_in_between_but_not_expired_ones(netrec: Run, tmp_path: Path) -> None:
    for sequence in (3, 4, 6):
        write(tmp_path, "flows", [flow(sequence, 1, 2)], sequence=sequence)
    answer = netrec("verify", tmp_path)
    assert answer.code == 1
    assert "flows files 5 of web-1" in answer.out
    assert "1 problems" in answer.out


def test_verify_compares_rows_schema_and_names(netrec: Run, tmp_path: Path) -> None:
    path = write(tmp_path, "flows", [flow(1, 1, 2)])
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    assert "it holds 2 rows, its footer says 1" in netrec("verify", tmp_path).out
    wrong = table.set_column(table.schema.get_field_index("client_bytes"), "client_bytes", pa.array(["x"]))
    pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), path)
    assert "client_bytes" in netrec("verify", tmp_path).out
    pq.write_table(table, path.with_name(path.name.replace("-000001", "-000002")))
    assert "its name says otherwise" in netrec("verify", tmp_path).out


def test_files_of_an_older_format_read_as_null_where_they_lack_columns(netrec: Run, trace: Path) -> None:
    old = ["start_time", "end_time", "flow_id", "client_address", "server_address", "client_bytes", "server_bytes"]
    write(trace, "flows", [flow(70, 31, 32)], sequence=2, columns=old)
    only_old = trace.parent / "old"
    write(only_old, "flows", [flow(71, 31, 32)], columns=old)
    found = json.loads(netrec("analyze", "summary", trace, only_old, "--format", "json").out)["rows"][0]
    assert found["flows"] == 8
    found = json.loads(netrec("analyze", "summary", only_old, "--format", "json").out)["rows"][0]
    assert (found["bytes"], found["retransmits"], found["processes"]) == (1000, 0, 0)


@pytest.mark.parametrize("format", ["table", "json", "ndjson", "csv", "markdown", "parquet"])
def test_hostile_names_stay_harmless(netrec: Run, trace: Path, tmp_path: Path, format: str) -> None:
    target = tmp_path / "answer"
    answer = netrec("analyze", "top-talkers", trace, "--by", "process", "--format", format, "-o", target)
    assert answer.code == 0, answer.err
    if format == "parquet":
        assert HOSTILE in pq.read_table(target)["talker"].to_pylist()
        return
    text = target.read_text()
    assert "\x1b" not in text or format == "csv"
    if format in {"table", "markdown"}:
        assert "\\x1b" in text.replace("\\\\", "\\").replace("\\[", "[")
        assert len([line for line in text.splitlines() if "evil" in line]) == 1
        assert "\u202e" not in text
    elif format == "json":
        assert HOSTILE in [row["talker"] for row in json.loads(text)["rows"]]
    elif format == "ndjson":
        assert HOSTILE in [json.loads(line)["talker"] for line in text.splitlines()]
    else:
        assert HOSTILE in [row["talker"] for row in csv.DictReader(io.StringIO(text))]


def test_csv_runs_no_formula(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path, "flows", [flow(1, 0, 1, process_name="=HYPERLINK(1)"), flow(2, 0, 1, process_name="\t@x")])
    answer = netrec("analyze", "top-talkers", tmp_path, "--by", "process", "--format", "csv")
    talkers = [row["talker"] for row in csv.DictReader(io.StringIO(answer.out))]
    assert sorted(talkers) == ["'\t@x", "'=HYPERLINK(1)"]


def test_an_answer_file_appears_whole_or_not_at_all(netrec: Run, trace: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("before")
    sentence(netrec("analyze", "top-talkers", trace, "--filter", "nonsense", "-o", target))
    assert target.read_text() == "before"
    assert netrec("analyze", "top-talkers", trace, "--format", "csv", "-o", target).code == 0
    assert target.read_text().startswith("talker,bytes")
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "trace"]  # noqa: PTH208


def test_relative_and_daily_times_count_from_the_traces_end(netrec: Run, trace: Path) -> None:
    since = netrec("analyze", "summary", trace, "--since=-10s", "--format", "json")
    last = netrec("analyze", "summary", trace, "--last", "10s", "--format", "json")
    absolute = netrec("analyze", "summary", trace, "--since", at(40).isoformat(), "--format", "json")
    assert json.loads(since.out)["rows"] == json.loads(last.out)["rows"] == json.loads(absolute.out)["rows"]
    daily = netrec(
        "analyze", "summary", trace, "--since", "21:00:20", "--timezone", "Europe/Berlin", "--format", "json"
    )
    assert json.loads(daily.out)["rows"][0]["bytes"] == 20_000_000


def test_a_table_that_was_recorded_while_nothing_happened_is_there_without_rows(netrec: Run, tmp_path: Path) -> None:
    write(tmp_path / "idle", "health", [health(0, 60)], tables=["flows", "health"])
    answer = netrec("analyze", "top-talkers", tmp_path / "idle", "--utc")
    assert answer.code == 0
    assert "20:00:00 to 20:01:00 UTC | 0 rows | lost 0" in answer.out
    sentence(netrec("analyze", "event-totals", tmp_path / "idle"), "this trace has no events table", "--events")


def test_an_answer_that_was_cut_says_so(netrec: Run, trace: Path) -> None:
    assert "2 rows, as many as -n 2 allows" in netrec("analyze", "flows", trace, "-n", "2").out
    assert "allows" not in netrec("analyze", "flows", trace, "-n", "0").out
