"""The filter on the rows of every source: what it means is decided here, whatever a source has left out before."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from netrec.filter import Filter
from netrec.filter.evaluate import evaluate
from netrec.trace import columns
from recorder import cgroups

TABLES = ("flows", "events")


class RowFilter:
    """Keeps the rows that match; with `given` None, all."""

    def __init__(self, given: Filter | None) -> None:
        self._given = given
        self._numbers: dict[str, set[int]] = {}

    def keep(self, table: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch that match; other tables than those of flows and their events are left alone."""
        if self._given is None or table not in TABLES or not batch.num_rows:
            return batch
        mask = evaluate(self._given.expression, batch, cgroup_numbers=self._cgroup_numbers)
        if mask.all():
            return batch
        rows = np.flatnonzero(mask)
        return pa.RecordBatch.from_arrays([columns.take(column, rows) for column in batch.columns], schema=batch.schema)

    def _cgroup_numbers(self, path: str) -> Collection[int]:
        """Every cgroup below the path that has been there since the recording began: a flow may outlive its cgroup."""
        known = self._numbers.setdefault(path, set())
        known.update(cgroups.numbers_below(path))
        return known
