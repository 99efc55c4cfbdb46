"""Rows of sources that cannot sample by themselves: whole flows, 1 in N, and they say so."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from netrec.trace import tables
from recorder.sampling import thin


def flows(ids: list[int | None], moments: list[int] | None = None) -> pa.RecordBatch:
    times = pa.array(moments or list(range(len(ids))), pa.timestamp("us", "UTC"))
    return tables.batch(tables.FLOWS, {"flow_id": pa.array(ids, pa.int64()), "end_time": times}, len(ids))


def ids(batch: pa.RecordBatch) -> list[int]:
    return batch.column("flow_id").to_pylist()


@pytest.mark.parametrize("interval", [2, 3, 16])
def test_one_in_so_many_and_they_say_so(interval: int) -> None:
    kept = thin(flows(list(range(1, 40_001))), interval)
    expected = 40_000 / interval
    assert abs(kept.num_rows - expected) < 5 * np.sqrt(expected)
    assert set(kept.column("sampling_interval").to_pylist()) == {interval}
    assert kept.schema == tables.FLOWS.schema


def test_every_row_of_a_flow_or_none() -> None:
    kept = ids(thin(flows([number % 500 + 1 for number in range(2000)]), 4))
    assert {kept.count(one) for one in set(kept)} == {4}


def test_a_sample_is_within_that_of_every_divisor() -> None:
    whole = flows(list(range(1, 5001)))
    assert set(ids(thin(whole, 8))) < set(ids(thin(whole, 4))) < set(ids(thin(whole, 2)))


def test_rows_without_a_number_are_flows_of_their_own() -> None:
    assert 300 < thin(flows([None] * 4000), 8).num_rows < 700


def test_all_is_all() -> None:
    whole = flows([1, 2, 3])
    assert thin(whole, 1) is whole
    assert thin(flows([]), 4).num_rows == 0
