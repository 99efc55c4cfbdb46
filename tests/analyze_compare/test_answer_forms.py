"""Every analysis in every format: an answer without a row, and names from strangers."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.cli import main
from tests.support.analysis_traces import write_trace


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit:
        main(["analyze", *arguments])
    captured = capsys.readouterr()
    return int(exit.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_trace(tmp_path_factory.mktemp("forms") / "t", flows=3000, seconds=100))


@pytest.mark.parametrize("analysis", ["capacity", "incident", "security"])
@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv", "markdown"])
def test_every_form_of_every_analysis(analysis: str, form: str, trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, analysis, trace, "--format", form)
    assert code in (0, 1, 3)
    assert "unexpected" not in err
    if form == "json":
        document = json.loads(out)
        assert document["analysis"] == analysis and document["exit_code"] == code and document["format"] == 1
    else:
        assert out or err


def test_names_from_strangers_are_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = write_trace(tmp_path / "t", flows=3000, seconds=100)
    for path in trace.rglob("flows/**/*.parquet"):
        table = pq.read_table(path)
        name = "\x1b[31mevil\x1b[0m|<script>'; drop table flows--"
        column = pa.array([name] * table.num_rows).dictionary_encode()
        place = table.schema.get_field_index("server_name")
        metadata = table.schema.metadata
        table = table.set_column(place, table.schema.field(place), column.cast(table.schema.field(place).type))
        pq.write_table(table.replace_schema_metadata(metadata), path)
    for analysis in (["capacity"], ["incident", "--window", "10:00:30/10:01:00"], ["security"]):
        for form in ("table", "markdown"):
            code, out, err = run(capsys, *analysis, str(trace), "--utc", "--format", form)
            assert code in (0, 1, 3), err
            assert "\x1b[31m" not in out + err
            assert form == "table" or "<script>" not in out
