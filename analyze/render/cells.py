"""One value as text for people: its unit, escaped, right or left."""

from __future__ import annotations

import math
from datetime import tzinfo
from typing import Any

from analyze.moments import show
from analyze.result import Column
from netrec.text import format_count, format_duration, format_size, printable

EMPTY = "-"


def cell(value: Any, column: Column, zone: tzinfo | None) -> str:
    """What a table shows for a value: numbers in their unit, times in the zone, text escaped, `-` for null."""
    if value is None:
        return EMPTY
    if column.is_time:
        return show(value, zone)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and column.is_number:
        return _number(value, column.unit)
    return printable(str(value))


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        return format_size(value)
    if unit == "bytes/s":
        return f"{format_size(value)}/s"
    if unit == "bits/s":
        return f"{format_count(value)}bit/s" if abs(value) >= 1000 else f"{value:.0f} bit/s"
    if unit == "us":
        return format_duration(value / 1e6)
    if unit == "ms":
        return format_duration(value / 1e3)
    if unit == "s":
        return format_duration(value)
    if unit == "ratio":
        return f"{value:.1%}"
    if isinstance(value, float):
        return _plain(value)
    # A bare number may be a port or an id: only counts get separators.
    return f"{value:,}" if unit else str(value)


def _plain(value: float) -> str:
    """Two decimals; two digits of what would then be 0.00, down to `<0.0001`."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if 0 < abs(value) < 1e-4:
        return "<0.0001" if value > 0 else ">-0.0001"
    if 0 < abs(value) < 0.05:
        return f"{value:.2g}"
    return f"{value:,.2f}" if abs(value) < 1e15 else f"{value:g}"
