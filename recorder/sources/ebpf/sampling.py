"""Which flows are in the sample: in_sample() of common.bpf.h, on arrays."""

from __future__ import annotations

import numpy as np

_SEED = np.uint64(0x9E3779B97F4A7C15)
_FACTOR = np.uint64(0xFF51AFD7ED558CCD)


def in_sample(records: np.ndarray, interval: int) -> np.ndarray:
    """True for the flows that belong to the 1 in `interval`; shape (len(records),).

    `records` has local, remote (V16), local_port, remote_port. Both ends of a flow are chosen alike.
    """
    if interval <= 1:
        return np.ones(len(records), bool)
    local, remote = (np.ascontiguousarray(records[name]).view(np.uint64).reshape(-1, 2) for name in ("local", "remote"))
    ends = local + remote
    port, other = (records[name].astype(np.uint64) for name in ("local_port", "remote_port"))
    found = _mix(np.full(len(records), _SEED), ends[:, 0])
    found = _mix(found, ends[:, 1])
    found = _mix(found, (port ^ other) << np.uint64(32) | (port + other))
    return (found >> np.uint64(32)) % np.uint64(interval) == 0


def _mix(found: np.ndarray, word: np.ndarray) -> np.ndarray:
    mixed = (found ^ word) * _FACTOR
    return mixed ^ mixed >> np.uint64(32)
