"""What the reader of footers says of columns, against Arrow's reader of the same files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analyze.footer import holds_nothing

FILES = sorted(Path(__file__).parents[2].glob("sample_traces/*/*/*/*/*.parquet"))


def empty_columns(path: Path) -> dict[str, bool]:
    """Whether Arrow finds statistics that say so, by column."""
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    found = {}
    for place, name in enumerate(file.schema_arrow.names):
        chunks = [group.column(place) for group in groups]
        found[name] = all(one.is_stats_set and one.statistics.null_count == one.num_values for one in chunks)
    return found


@pytest.mark.parametrize("path", FILES[:: len(FILES) // 12], ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_columns_that_hold_nothing(path: Path) -> None:
    expected = empty_columns(path)
    assert {name: holds_nothing(path, name) for name in expected} == expected
    assert holds_nothing(path, "no_such_column")


@pytest.mark.parametrize("last", [None, 7])
def test_every_row_group_counts(tmp_path: Path, last: int | None) -> None:
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"count": pa.array([None] * 9_999 + [last], pa.int64())}), path, row_group_size=1_000)
    assert holds_nothing(path, "count") is (last is None)


def test_text_from_strangers_hides_no_value(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"count": pa.array([None] * 1_000, pa.int64())}), path)
    footer = path.read_bytes()
    nulls = footer[footer.rindex(b"\x18\x05count") :][:40]  # what says that there is no value
    table = pa.table({"like": pa.array([nulls] * 1_000), "count": pa.array([7] * 1_000, pa.int64())})
    pq.write_table(table, path)
    assert path.read_bytes().count(nulls) > 1
    assert not holds_nothing(path, "count")


def test_what_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1")
    assert not holds_nothing(path, "count")
    assert not holds_nothing(tmp_path / "missing.parquet", "count")
