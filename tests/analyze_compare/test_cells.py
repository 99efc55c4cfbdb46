"""What `cells` counts, against DuckDB's grouping of the same rows."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest

from analyze.compare import measure
from analyze.compare.cells import Cells, code_sql, value_sql
from analyze.compare.lookup import ABSENT, Lookup
from analyze.statistics.quantiles import NOT_POSITIVE, bin_sql

BUCKETS, STRATA, BATCHES = 16, 3, 8
# Every kind of a row; values that are none, none that has a logarithm, usual and the largest ones.
ROWS = """
  select row_number() over () as n, * from (values (null), ('fin'), ('timeout'), ('connect_failed'), ('rst_sent'),
    ('rst_received'), ('another')) a(tcp_close), (values ('tcp'), ('udp'), (null)) b(transport),
    (values (1, 1), (1, 2), (null, 2)) c(flow_start_time, start_time),
    (values (null), (-3), (0), (1), (10), (250), (9223372036854775807)) d(value)
"""
COUNTED = f"""
  select ((n * 7919) % {BUCKETS})::INTEGER as bucket, ((n * 104729) % {STRATA})::INTEGER as stratum, *,
    n * 1000000007 as bytes, n % 5 as packets, n % 2 as retransmits,
    case when n % 3 > 0 then 8 * (n % 3) else 4 end as weight
  from ({ROWS})
"""


def lookup(connection: duckdb.DuckDBPyConnection) -> Lookup:
    keys = connection.sql(f"select hash(stratum::INTEGER) as key from range({STRATA}) t(stratum) order by stratum")
    return Lookup(keys.pl()["key"].to_numpy(), np.arange(STRATA))


def compared(connection: duckdb.DuckDBPyConnection, counted: pl.DataFrame, sql: str) -> None:
    expected = connection.sql(sql).pl().sort(pl.all())
    assert counted.height == expected.height > 0
    for name in expected.columns:
        got, wanted = counted.sort(pl.all())[name].to_list(), expected[name].to_list()
        assert got == wanted or np.allclose(np.array(got, float), np.array(wanted, float), equal_nan=True), name


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("rows", [7, 1_000_000])
def test_tables_are_what_grouping_gives(weighted: bool, rows: int) -> None:
    least = 4 if weighted else 1
    sql = measure.evidence(least)
    with duckdb.connect() as connection:
        connection.execute(f"create macro scaled(counter, sampling) as counter {'* sampling' if weighted else ''}")
        connection.execute(f"create table counted as {COUNTED}")
        narrow = (
            f"select bucket::BIGINT as time, hash(stratum) as key, {code_sql(measure.OPENED)} as code, bytes, "
            f"{sql['packets']} as packets, {sql['retransmits']} as retransmits, {value_sql('value')} as value_value"
            + (f", weight, weight // {least} as evidence" if weighted else "")
        )
        cells = Cells(
            BUCKETS, lambda time: time, STRATA, lookup(connection), ["bytes", "packets", "retransmits"], ["value"]
        )
        # Rows of a stratum that nobody knows count nowhere.
        unknown = "select * from counted union all select * replace (99 as stratum) from counted"
        for batch in connection.sql(f"{narrow} from ({unknown})").to_arrow_reader(rows):
            cells.add(batch)
        buckets, groups, histograms = cells.frames(measure.told(), measure.ABSOLUTE, ["a", "b", "c"])
        sums = ", ".join(f"sum({one})::BIGINT as {name}" for name, one in sql.items())
        batch = f"bucket * {BATCHES} // {BUCKETS} as batch"
        stratum = "['a', 'b', 'c'][stratum + 1] as stratum"
        binned = f"(select *, ({bin_sql('value')})::SMALLINT as bin from counted)"
        mean = f"avg(bin) filter (bin > {NOT_POSITIVE}) as log_value"
        compared(
            connection,
            buckets.select("bucket", *sql, "log_value"),
            f"select bucket, {sums}, {mean} from {binned} group by 1",
        )
        compared(
            connection,
            groups.select("batch", "stratum", *sql),
            f"select {batch}, {stratum}, {sums} from counted group by 1, 2",
        )
        compared(
            connection, histograms.drop("histogram"),
            f"select {batch}, {stratum}, bin, sum({'weight // 4' if weighted else '1'})::BIGINT as count from {binned} "
            "where bin is not null group by 1, 2, 3",
        )  # fmt: skip


def test_no_rows_are_no_traffic() -> None:
    cells = Cells(BUCKETS, lambda time: time, STRATA, lookup(duckdb.connect()), ["bytes"], ["value"])
    buckets, groups, histograms = cells.frames(measure.told(), measure.ABSOLUTE, ["a", "b", "c"])
    assert buckets.height == BUCKETS and buckets["bytes"].sum() == 0 and buckets["log_value"].null_count() == BUCKETS
    assert groups.is_empty() and histograms.is_empty()


@pytest.mark.parametrize("number", [0, 1, 5, 3000])
def test_every_key_is_found_and_no_other(number: int) -> None:
    keys = np.random.default_rng(number).integers(0, 2**64, number, dtype=np.uint64)
    keys[::2] &= np.uint64(2**63 + 3)  # half of them want the same few slots
    keys = np.unique(keys)
    found = Lookup(keys, np.arange(len(keys)) * 2)
    many = np.tile(keys, 3)
    assert (found.find(many) == np.tile(np.arange(len(keys)) * 2, 3)).all()
    others = np.setdiff1d(np.arange(1000, dtype=np.uint64), keys)
    assert (found.find(others) == ABSENT).all()
    assert len(found.find(keys[:0])) == 0


def test_a_time_has_the_bucket_of_its_part_of_the_window_or_of_its_paired_hour() -> None:
    plain = measure.Window(1_000_000, 11_000_000)
    times = np.array([0, 1_000_000, 1_999_999, 2_000_000, 10_999_999, 99_000_000])
    assert plain.buckets == 10
    assert plain.buckets_of(times).tolist() == [0, 0, 0, 1, 9, 9]
    hour = 3_600_000_000
    paired = measure.Window(10 * hour, 20 * hour, (17, 12))
    assert paired.buckets == 240
    inside = [17 * hour, 18 * hour - 1, 12 * hour, 12 * hour + hour // 120]
    outside = [0, 11 * hour, 12 * hour - 1, 13 * hour, 16 * hour, 18 * hour, 99 * hour]
    assert paired.buckets_of(np.array(inside + outside)).tolist() == [0, 119, 120, 121] + [-1] * len(outside)
