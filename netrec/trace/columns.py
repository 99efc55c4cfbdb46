"""NumPy arrays -> Arrow columns, from their buffers.

`pyarrow.array` and the methods of Array import pandas and pyarrow.compute on their first call where those are
installed: a second and tens of megabytes that a recorder must not pay. Nothing here does.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from netrec.trace.fields import TIME

_NUMPY = {
    pa.int16(): np.int16,
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float64(): np.float64,
    TIME: np.int64,
}


# What most constants need: columns of one batch may share their memory.
_ZEROS = np.zeros(16_384, np.int32)


def _validity(null: np.ndarray | None) -> pa.Buffer | None:
    """Arrow's bitmap of what is not null; None when nothing is."""
    if null is None or not null.any():
        return None
    return pa.py_buffer(np.packbits(~null, bitorder="little"))


def numbers(values: np.ndarray, null: np.ndarray | None = None, kind: pa.DataType | None = None) -> pa.Array:
    """Integers or floats as the Arrow type `kind` (default int64); null where the mask `null` is true; shape (n,)."""
    target = kind or pa.int64()
    data = np.ascontiguousarray(values, _NUMPY[target])
    return pa.Array.from_buffers(target, len(data), [_validity(null), pa.py_buffer(data)])


def times(microseconds: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
    """Microseconds since 1970 (UTC) as timestamps; null where the mask is true; shape (n,)."""
    data = np.ascontiguousarray(microseconds, np.int64)
    return pa.Array.from_buffers(TIME, len(data), [_validity(null), pa.py_buffer(data)])


def booleans(values: np.ndarray) -> pa.Array:
    """Booleans; shape (n,)."""
    bits = pa.py_buffer(np.packbits(values, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, bits])


def values(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (times: microseconds) of an Arrow array, and where they are null; both of shape (len(array),)."""
    validity, data = array.buffers()
    end = array.offset + len(array)
    null = np.zeros(len(array), bool)
    if validity is not None:
        bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
        null = bits[array.offset : end] == 0
    if data is None or not len(array):
        return np.zeros(len(array), _NUMPY[array.type]), null
    return np.frombuffer(data, _NUMPY[array.type], end)[array.offset :], null


def text(codes: np.ndarray, texts: list[str], null: np.ndarray | None = None) -> pa.DictionaryArray:
    """Text from a code per row into `texts`; null where the mask is true; shape (n,)."""
    indices = numbers(codes, null, pa.int32())
    return pa.DictionaryArray.from_arrays(indices, _strings(texts))


def _strings(texts: list[str]) -> pa.StringArray:
    encoded = [one.encode() for one in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def constant(value: str, rows: int) -> pa.DictionaryArray:
    """The same text in every row."""
    zeros = _ZEROS if rows <= len(_ZEROS) else np.zeros(rows, np.int32)
    return text(zeros[:rows], [value])


def take(column: pa.Array, rows: np.ndarray) -> pa.Array:
    """Some rows by their numbers, in any order; `Array.take` would import pyarrow.compute, which costs 10 MB."""
    kind = column.type
    validity, data = column.buffers()[:2]
    if pa.types.is_dictionary(kind):
        indices = pa.Array.from_buffers(pa.int32(), len(column), [validity, data], offset=column.offset)
        return pa.DictionaryArray.from_arrays(take(indices, rows), column.dictionary)
    own = slice(column.offset, column.offset + len(column))
    if column.null_count:
        known = np.unpackbits(np.frombuffer(validity, np.uint8), count=own.stop, bitorder="little")[own]
        validity = pa.py_buffer(np.packbits(known[rows], bitorder="little"))
    else:
        validity = None
    if pa.types.is_boolean(kind):
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=own.stop, bitorder="little")[own]
        taken = np.packbits(bits[rows], bitorder="little")
    else:
        taken = np.frombuffer(data, np.dtype(f"i{kind.bit_width // 8}"))[own][rows]
    return pa.Array.from_buffers(kind, len(rows), [validity, pa.py_buffer(taken)])
