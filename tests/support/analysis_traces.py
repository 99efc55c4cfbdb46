"""Traces for the tests of the analyses: invented flows with a known change in them, in the real format."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from recorder.sources.synthetic.flows import flow_batches
from recorder.sources.synthetic.history import write_batches

START = datetime(2026, 11, 20, 10, tzinfo=UTC)
Change = Callable[[dict[str, np.ndarray], np.random.Generator], None]


def write_trace(
    folder: Path,
    *,
    flows: int = 24_000,
    seconds: float = 240.0,
    start: datetime = START,
    seed: int = 5,
    change: Change | None = None,
    host: str = "h",
) -> Path:
    """A finished trace; `change` may alter the numeric columns of each batch in place (null is NaN)."""
    generator = np.random.default_rng(seed + start.hour)
    batches = list(flow_batches(flows, seed=seed, start=start, duration=seconds)) if flows else []
    if change:
        batches = [altered(batch, change, generator) for batch in batches]
    write_batches(folder, batches, start=start, duration=seconds, host=host)
    return folder


def altered(batch: pa.RecordBatch, change: Change, generator: np.random.Generator) -> pa.RecordBatch:
    numeric = {
        field.name: batch.column(field.name).to_numpy(zero_copy_only=False).astype(float)
        for field in batch.schema
        if pa.types.is_integer(field.type)
    }
    before = {name: values.copy() for name, values in numeric.items()}
    change(numeric, generator)
    arrays = []
    for index, field in enumerate(batch.schema):
        values = numeric.get(field.name)
        if values is None or np.array_equal(values, before[field.name], equal_nan=True):
            arrays.append(batch.column(index))
        else:
            missing = np.isnan(values)
            arrays.append(pa.array(np.where(missing, 0, values).astype(np.int64), mask=missing).cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


def later(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)
