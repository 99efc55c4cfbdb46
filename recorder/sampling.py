"""Samples the rows of sources that cannot sample by themselves: whole flows, by a hash of their `flow_id`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from netrec.trace.columns import numbers


def thin(flows: pa.RecordBatch, interval: int) -> pa.RecordBatch:
    """The rows of 1 in `interval` flows, with `sampling_interval` set; a row without a `flow_id` is a flow of its own.

    What is chosen at an interval is chosen at all its divisors: a flow stays in the sample when that grows.
    """
    if interval <= 1 or not flows.num_rows:
        return flows
    identity = flows.column("flow_id").cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    moment = flows.column("end_time").cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    chosen = _hash(np.where(identity == 0, moment, identity)) % np.uint64(interval) == 0
    kept = flows.filter(pa.array(chosen))
    place = flows.schema.get_field_index("sampling_interval")
    weight = numbers(np.full(kept.num_rows, interval))
    return kept.set_column(place, flows.schema.field(place), weight)


def _hash(values: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    found = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    found = (found ^ found >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    found = (found ^ found >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return found ^ found >> np.uint64(31)
