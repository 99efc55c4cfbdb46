"""One JSON object a row. Numbers are raw, times are ISO 8601 in UTC; other characters than ASCII are escaped."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import tzinfo
from typing import IO, Any

from analyze.moments import iso
from analyze.result import Column, Result


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write one line a row."""
    for row in result.rows():
        stream.write(json.dumps(row_object(row, result.columns)) + "\n")


def row_object(row: Sequence[Any], columns: Sequence[Column]) -> dict[str, Any]:
    """A row as JSON's types; infinities and NaN, which JSON does not have, become null."""
    return {column.name: _value(value, column) for value, column in zip(row, columns, strict=True)}


def _value(value: Any, column: Column) -> Any:
    if value is not None and column.is_time:
        return iso(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
