"""Rows of the events table, from whatever was counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from netrec.trace import tables
from netrec.trace.columns import constant, numbers, text
from recorder.sources.ebpf import event_records as e
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.rows import RowMaker, utc

_EPHEMERAL_LOW = 32768
_ROLES = ["client", "server", "none"]


def event_rows(records: np.ndarray, maker: RowMaker, more: dict[str, pa.Array | None]) -> pa.RecordBatch:
    """Rows of the events table from records with an identity, an owner, `kind`, `id`, `role`, `time` and `count`.

    `more` are the columns that only the caller knows, or knows better (None: null).
    """
    count = len(records)
    local_is_client = np.where(records["role"] != 0, records["role"] == r.ROLE_CLIENT, ~_served(records))
    # A dropped packet that belongs to no flow may have come, gone, or been on its way through.
    passing = (records["kind"] == e.DROP) & (records["id"] == 0)
    columns: dict[str, pa.Array | None] = {
        "time": utc(records["time"], maker.offset_ns()),
        **maker.identity_columns(records, local_is_client),
        "role": text(np.where(passing, 2, np.where(local_is_client, 0, 1)), _ROLES),
        **maker.owner_columns(records),
        "count": numbers(records["count"]),
        "source": constant("ebpf", count),
        "host": constant(maker.host, count),
        **more,
    }
    known = {name: column for name, column in columns.items() if column is not None}
    return tables.batch(tables.EVENTS, known, count)


def _served(records: np.ndarray) -> np.ndarray:
    """Whether the local end looks like the server's: it alone has a port below those that clients are given, or the
    lower one of the two."""
    local, remote = records["local_port"], records["remote_port"]
    low, other_low = local < _EPHEMERAL_LOW, remote < _EPHEMERAL_LOW
    return np.where(low == other_low, local < remote, low)
