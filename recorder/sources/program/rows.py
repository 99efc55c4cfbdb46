"""A program's records -> a record batch of its table, column by column."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from netrec.trace import fields as f
from netrec.trace.columns import booleans, constant, numbers, text, times
from recorder.sources.program.annotation import Annotation, Column

_MAPPED = bytes(10) + b"\xff\xff"


class RowMaker:
    """Makes the rows of one program. `enumerations` are the kernel's names of numbers, by enum."""

    def __init__(self, annotation: Annotation, host: str, enumerations: Mapping[str, Mapping[int, str]]) -> None:
        self._annotation, self._host, self._enumerations = annotation, host, enumerations

    def rows(self, records: np.ndarray, offset_ns: int, now_ns: int) -> pa.RecordBatch:
        """One row a record; shape (len(records),).

        `offset_ns` is CLOCK_REALTIME minus CLOCK_BOOTTIME, `now_ns` the time (CLOCK_BOOTTIME) of records without one.
        """
        time = self._annotation.table.time_column
        arrays = []
        for column in self._annotation.columns:
            if column.field is not None:
                values = records[column.name]
                if column.kind == "kernel_time":
                    unknown = values == 0
                    if column.name == time:
                        values, unknown = np.where(unknown, np.uint64(now_ns), values), np.zeros(len(values), bool)
                    arrays.append(times((values.astype(np.int64) + offset_ns) // 1000, unknown))
                else:
                    arrays.append(self._column(column, column.field, values))
        arrays += [constant("program", len(records)), constant(self._host, len(records))]
        return pa.RecordBatch.from_arrays(arrays, schema=self._annotation.table.schema)

    def _column(self, column: Column, field: f.Field, values: np.ndarray) -> pa.Array:
        if column.kind == "text":
            return _texts(values, lambda raw: raw.decode(errors="replace"))
        if column.kind == "ip_address":
            return _texts(values, _address)
        if column.enumeration:
            names = self._enumerations.get(column.enumeration, {})
            return _texts(values, lambda number: names.get(int(number), str(int(number))), nothing=False)
        if column.scale:
            return numbers(values.astype(np.float64) * column.scale, kind=f.FLOAT)
        if field.type == f.BOOL:
            return booleans(values != 0)
        # Every engine reads signed numbers: a u64 of more than 2**63 - 1 comes out negative.
        return numbers(values.astype(np.dtype(f"i{field.type.bit_width // 8}")), kind=field.type)


def _texts(values: np.ndarray, show: Callable[[Any], str], nothing: bool = True) -> pa.Array:
    """Every different value is turned into text once; what shows as nothing is null, unless `nothing` is False."""
    different, codes = np.unique(values, return_inverse=True)
    shown = [show(value) for value in different]
    null = np.array([not one for one in shown], bool)[codes.ravel()] if nothing and shown else None
    return text(codes.ravel(), shown, null)


def _address(raw: Any) -> str:
    data = bytes(raw)
    if not any(data):
        return ""
    if data.startswith(_MAPPED):
        return str(ipaddress.IPv4Address(data[12:]))
    return str(ipaddress.IPv6Address(data))
