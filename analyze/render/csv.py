"""Comma-separated values (RFC 4180) with a heading. Numbers are raw, times are ISO 8601 in UTC, null is empty.

A text that a spreadsheet would run as a formula (it begins with `=`, `+`, `-`, `@`, a tab or a line end) gets an
apostrophe in front: names in a trace come from strangers. Programs that need the very bytes read `ndjson` or `parquet`.
"""

from __future__ import annotations

import csv
from datetime import tzinfo
from typing import IO, Any

from analyze.moments import iso
from analyze.result import Column, Result

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write a heading and one record a row."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.name for column in result.columns])
    for row in result.rows():
        writer.writerow([_value(value, column) for value, column in zip(row, result.columns, strict=True)])


def _value(value: Any, column: Column) -> Any:
    if value is None:
        return ""
    if column.is_time:
        return iso(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
