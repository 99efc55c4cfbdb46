"""Times as text: microseconds since 1970 (UTC) -> what a person or a program reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(value: int) -> datetime:
    """The moment, exactly."""
    return _EPOCH + timedelta(microseconds=value)


def show(value: int, zone: tzinfo | None) -> str:
    """`2026-11-22 20:03:10.123`, without trailing zeros of the second; `zone` None is the machine's own."""
    try:
        local = moment(value).astimezone(zone)
    except (OverflowError, ValueError):
        return str(value)
    text = f"{local:%Y-%m-%d %H:%M:%S}"
    return f"{text}.{local.microsecond:06d}".rstrip("0") if local.microsecond else text


def iso(value: int, zone: tzinfo | None = UTC) -> str:
    """`2026-11-22T20:03:10.123456Z`: ISO 8601 with its offset."""
    try:
        text = moment(value).astimezone(zone).isoformat()
    except (OverflowError, ValueError):
        return str(value)
    return text.replace("+00:00", "Z")


def show_window(since: int, until: int, zone: tzinfo | None) -> str:
    """`2026-11-22 20:03:10 to 20:13:10 UTC`."""
    start, end = moment(since).astimezone(zone), moment(until).astimezone(zone)
    day = "" if start.date() == end.date() else f"{end:%Y-%m-%d} "
    return f"{start:%Y-%m-%d %H:%M:%S} to {day}{end:%H:%M:%S} {end.tzname()}"
