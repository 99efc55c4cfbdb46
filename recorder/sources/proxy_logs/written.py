"""Up to where killed recordings had written a log's lines, as rows or as rejected ones: so that each comes once.

The place that is remembered is always a little behind what was written (or lines would be lost). What was written after
it shows in the trace itself: a row's flow_id ends with its line's position, and so does a rejected line begin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from netrec.errors import TraceError
from netrec.trace import layout
from recorder import spool
from recorder.sources.proxy_logs.follow import LONGEST, OFFSET_BITS

# A flow_id: which log, then the end of the line's position: of the file's number these bits, and the offset.
_FILE_BITS = 12
_POSITION_BITS = _FILE_BITS + OFFSET_BITS
_POSITION = (1 << _POSITION_BITS) - 1
# Above the flow_ids of programs in the kernel, below those of our own proxy, which may be in the same capture.
_MARK = 1 << 61
_SOURCES = ("haproxy", "envoy", "squid")
# The last line of a file of rejected ones is in so many bytes, also when each byte of it was escaped.
_TAIL = 8 * LONGEST


def flow_id(source: str, position: int) -> int:
    """The flow_id of a line's row, which no other line of that capture has."""
    return _MARK | _SOURCES.index(source) << _POSITION_BITS | position & _POSITION


def rows_up_to(trace: Path, captures: Iterable[str], source: str, start: int) -> int:
    """The position of the last line from `start` on that is a row of these captures; `start` - 1: none.

    Only what a capture wrote last can it have failed to remember: that is in its last file. Spools first: one that is
    repaired meanwhile is there as Parquet afterwards.
    """
    last = -1
    for capture in captures:
        for batch in chain(_spooled(trace, capture), _finished(trace, capture)):
            ours = batch.filter(pc.equal(batch.column("source").cast(pa.string()), source))
            # How far from `start`, modulo what a flow_id holds of a position; half of that is behind it.
            ahead = (ours.column("flow_id").to_numpy(zero_copy_only=False) - (start & _POSITION)) & _POSITION
            last = max(last, int(np.max(ahead, initial=-1, where=ahead <= _POSITION >> 1)))
    return start + last


def _spooled(trace: Path, capture: str) -> Iterator[pa.RecordBatch]:
    for path in sorted((trace / layout.SPOOL_FOLDER).glob(f"*-{capture}/flows-*")):
        with contextlib.suppress(OSError, TraceError, pa.ArrowException):
            file = layout.SpoolFile.parse(path)
            if file and (contents := spool.read(file)):
                yield from contents.batches()


def _finished(trace: Path, capture: str) -> Iterator[pa.RecordBatch]:
    for path in sorted(trace.glob(f"flows/*/*/*-{capture}-*.parquet"))[-1:]:
        with contextlib.suppress(OSError, pa.ArrowException):
            yield from ds.dataset(path, format="parquet").to_batches(columns=["flow_id", "source"])


def rejected_file(folder: Path, source: str, capture: str) -> Path:
    """Where a capture puts the lines that do not fit."""
    return folder / f"{source}-{capture}.log"


def rejected_line(position: int, reason: str, text: str) -> str:
    """A line of that file: number of the followed file and offset in it, the reason, the line."""
    return f"{position >> OFFSET_BITS}:{position & (1 << OFFSET_BITS) - 1}\t{reason}\t{text}\n"


def rejected_up_to(folder: Path, captures: Iterable[str], source: str) -> int:
    """The position of the last line that these captures rejected, whole; -1: none."""
    last = -1
    for capture in captures:
        path = rejected_file(folder, source, capture)
        with contextlib.suppress(OSError), path.open("rb") as file:
            if (before := path.stat().st_size - _TAIL) > 0:
                file.seek(before)
                file.readline()
            for line in file:
                number, _, offset = line.partition(b"\t")[0].partition(b":")
                if line.endswith(b"\n") and number.isdigit() and offset.isdigit():
                    last = max(last, int(number) << OFFSET_BITS | int(offset))
    return last
