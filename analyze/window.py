"""The time window of an analysis: `--since`, `--until` and `--last`, as people write them.

A time is ISO 8601 (`2026-11-22T20:03`, a date alone is its midnight), a time of day (`14:03`, `14:03:10`) or relative
(`-15m`). Relative times count back from the trace's end, because the traffic of interest is in the trace, not now; a
time of day is the latest such moment that is not after the trace's end (for `--until`: the first one after `--since`).
Times without an offset are in the time zone of the analysis.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from netrec.errors import UsageError
from netrec.text import parse_duration

_TIME_OF_DAY = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?")


@dataclass(frozen=True)
class Window:
    """Half-open [since, until), in UTC; None is unbounded."""

    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self.since is not None or self.until is not None


def zone(name: str | None) -> tzinfo | None:
    """The time zone of that name, None for the machine's own; raises `UsageError` for an unknown one."""
    if not name:
        return None
    if name.upper() in {"UTC", "Z"}:
        return UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"unknown time zone {name!r}", "write for example Europe/Berlin, or --utc") from None


def resolve(
    since: str | None,
    until: str | None,
    last: str | None,
    end: Callable[[], datetime],
    local: tzinfo | None,
) -> Window:
    """The window that the options name; `end` gives the trace's end and is called only when it is needed.

    Raises `UsageError` for a time that cannot be read, and for a window that ends before it starts.
    """
    if last is not None:
        if since is not None or until is not None:
            raise UsageError("--last cannot be combined with --since or --until", "use --since=-15m --until ...")
        try:
            seconds = parse_duration(last)
        except ValueError as problem:
            raise UsageError(f"--last: {problem}") from None
        # The end itself belongs to the window: it is the time of the last row.
        return Window(end() - timedelta(seconds=seconds), None)
    start = parse_time(since, "--since", end, local) if since is not None else None
    stop = parse_time(until, "--until", end, local, after=start) if until is not None else None
    if start and stop and stop <= start:
        raise UsageError(
            f"the time range ends before it starts (--since {since} is {start:%Y-%m-%d %H:%M:%S} UTC, "
            f"--until {until} is {stop:%Y-%m-%d %H:%M:%S} UTC)",
            "swap the two or widen the range",
        )
    return Window(start, stop)


def parse_time(
    text: str, option: str, end: Callable[[], datetime], local: tzinfo | None, after: datetime | None = None
) -> datetime:
    """One time, in UTC. `after` is the moment that a time of day has to follow. Raises `UsageError`."""
    given = text.strip()
    try:
        if given.startswith(("-", "+")):
            seconds = parse_duration(given[1:], allow_zero=True)
            return end() + timedelta(seconds=seconds if given[0] == "+" else -seconds)
        if match := _TIME_OF_DAY.fullmatch(given):
            return _time_of_day(match, end(), local, after)
        return _in_utc(datetime.fromisoformat(given), local)
    except (ValueError, OverflowError) as problem:
        if given.startswith("-"):
            raise UsageError(f"{option}: {problem}") from None
        raise UsageError(
            f"{option}: {text!r} is not a time", "write 2026-11-22T20:03, 14:03 or, counted from the trace's end, -15m"
        ) from None


def _time_of_day(match: re.Match[str], end: datetime, local: tzinfo | None, after: datetime | None) -> datetime:
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    fraction = int(float(match[4] or 0) * 1e6)
    anchor = (after or end).astimezone(local).replace(tzinfo=None)
    candidate = anchor.replace(hour=hour, minute=minute, second=second, microsecond=fraction)
    if after and candidate <= anchor:
        # Over midnight, but not to where there is no traffic: that range is the wrong way round.
        next_day = candidate + timedelta(days=1)
        candidate = next_day if _in_utc(next_day, local) <= end else candidate
    elif not after and candidate > anchor:
        candidate -= timedelta(days=1)
    return _in_utc(candidate, local)


def _in_utc(moment: datetime, local: tzinfo | None) -> datetime:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=local) if local else moment.astimezone()
    return moment.astimezone(UTC)
