"""Text from strangers, and numbers for people.

Names of processes, servers and paths come from whoever named them: `printable` makes them harmless before
they reach a terminal. Durations and sizes are parsed here for every option that takes one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

_DURATION = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgtp", start=1):
    _SIZE[_letter] = _SIZE[f"{_letter}b"] = 1000**_power
    _SIZE[f"{_letter}i"] = _SIZE[f"{_letter}ib"] = 1024**_power

# Control and format characters (C0, C1, bidirectional overrides, zero width), line separators, lone surrogates.
_HARMFUL = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def printable(text: str) -> str:
    """The text with everything that could move a cursor, colour, reorder or break a line shown as an escape.

    A backslash itself is kept, so that ordinary text stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(character) if unicodedata.category(character) in _HARMFUL else character for character in text
    )


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8 (surrogateescape)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def parse_duration(text: str, *, allow_zero: bool = False) -> float:
    """Seconds in `10s`, `5m`, `1h30m`, `250ms`, `2d`, or a bare number of seconds.

    Raises `ValueError` that says what is wrong.
    """
    given = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", given):
        seconds = float(given)
    elif re.fullmatch(r"(\d+(\.\d+)?(us|ms|[smhdw]))+", given):
        parts = re.findall(r"(\d+(?:\.\d+)?)(us|ms|[smhdw])", given)
        seconds = sum(float(number) * _DURATION[unit] for number, unit in parts)
    else:
        raise ValueError(f"{text!r} is not a duration; write for example 30s, 5m, 1h30m or 2d")
    if seconds < 0 or (seconds == 0 and not allow_zero):
        raise ValueError(f"{text!r} is not a positive duration")
    return seconds


def parse_size(text: str, *, allow_zero: bool = False) -> int:
    """Bytes in `256MB`, `1.5GiB`, `4096`; MB is a million bytes, MiB is 2**20. Raises `ValueError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in _SIZE:
        raise ValueError(f"{text!r} is not a size; write for example 256MB, 1.5GiB or 4096")
    size = int(float(match[1]) * _SIZE[match[2]])
    if size == 0 and not allow_zero:
        raise ValueError(f"{text!r} is not a positive size")
    return size


def format_size(size: float) -> str:
    """`12.3 MB`: three significant digits at most, decimal units."""
    return _scaled(size, 1000, ("B", "kB", "MB", "GB", "TB", "PB"))


def format_count(count: float) -> str:
    """`1.23 M`; small numbers as they are."""
    return _scaled(count, 1000, ("", "k", "M", "G", "T")).rstrip()


def folder_names(paths: Iterable[str]) -> list[str]:
    """What to call folders in a title: their own names, or the paths where two are called the same."""
    paths = list(paths)
    names = [Path(path).resolve().name or path for path in paths]
    return names if len(set(names)) == len(names) else paths


def format_latency(microseconds: float) -> str:
    """Three digits, in milliseconds or, from a thousand on, seconds."""
    milliseconds = microseconds / 1000
    return f"{milliseconds:.3g} ms" if abs(milliseconds) < 999.5 else f"{milliseconds / 1000:.3g} s"


def format_duration(seconds: float) -> str:
    """`1h 02m 03s`, `2m 05s`, `12.3 s`, `45 ms`, `120 us`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds == 0:
        return "0 s"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02d}h {minutes:02d}m"
    if hours:
        return f"{hours}h {minutes:02d}m {rest:02d}s"
    return f"{minutes}m {rest:02d}s"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    magnitude, index = float(value), 0
    while abs(magnitude) >= step and index < len(units) - 1:
        magnitude /= step
        index += 1
    if index == 0:
        digits = f"{value:.0f}"
    else:
        digits = f"{magnitude:.{2 if abs(magnitude) < 10 else 1 if abs(magnitude) < 100 else 0}f}"
    return f"{digits} {units[index]}"
