"""Many rotations of a whole recorder leave nothing behind: the mechanism of `python -m benchmarks long_run`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.long_run import rotate

ROTATIONS, KEEP = 30, 200_000


def test_rotations_leave_no_descriptor_and_no_file_behind(tmp_path: Path) -> None:
    run = rotate(tmp_path, ROTATIONS, KEEP, ("--source", "synthetic", "--synthetic-rate", "1000"))
    assert run.last >= ROTATIONS - 1
    early, late = run.moments[5:15], run.moments[-10:]
    # Some are open for a moment, for a file that is being made.
    assert max(one.descriptors for one in late) <= max(one.descriptors for one in early) + 2
    assert max(one.threads for one in late) <= max(one.threads for one in early)
    kept = [path.stat().st_size for path in tmp_path.rglob("*.parquet")]
    assert run.last + 1 > len(kept) > 0  # retention had something to do
    assert KEEP / 4 < sum(kept) <= KEEP
