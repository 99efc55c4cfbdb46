"""NumPy arrays become Arrow columns without pandas or pyarrow.compute."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from netrec.trace import columns, fields


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_each_kind_of_column_round_trips(count: int) -> None:
    values, null = np.arange(count, dtype=np.uint32), np.arange(count) % 3 == 1
    expected = [None if missing else int(value) for value, missing in zip(values, null, strict=True)]
    for kind in (pa.int32(), pa.int64()):
        column = columns.numbers(values, null, kind)
        column.validate(full=True)
        assert (column.type, column.to_pylist()) == (kind, expected)
    assert columns.numbers(values / 2, kind=pa.float64()).to_pylist() == [value / 2 for value in range(count)]
    assert columns.booleans(null).to_pylist() == null.tolist()
    stamps = columns.times(values)
    assert stamps.type == fields.TIME and stamps.cast(pa.int64()).to_pylist() == list(range(count))
    words = columns.text(values % 2, ["é\n", ""], null)
    words.validate(full=True)
    assert words.type == fields.TEXT
    assert words.to_pylist() == [
        None if missing else ["é\n", ""][value % 2] for value, missing in zip(values, null, strict=True)
    ]
    assert columns.constant("x", count).to_pylist() == ["x"] * count


def test_nothing_heavy_is_imported() -> None:
    script = (
        "import sys, numpy as np; from netrec.trace import columns as c\n"
        "c.numbers(np.arange(3), np.arange(3) > 1); c.times(np.arange(3))\n"
        "c.booleans(np.arange(3) > 1); c.constant('a', 3)\n"
        "print([name for name in ('pandas', 'pyarrow.compute') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
