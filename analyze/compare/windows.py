"""The two sides of a comparison: two traces, or two windows of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyze.window import parse_time
from netrec.errors import UsageError

if TYPE_CHECKING:
    from analyze.options import Session
    from analyze.scan import Scan


@dataclass(frozen=True)
class Interval:
    """Start and end as texts that `Session.open` takes; an empty one is open."""

    since: str | None
    until: str | None


def parse_interval(text: str, option: str, probe: Scan, session: Session) -> Interval:
    """`A/B` with two times as the window options take them; B may be a time of day after A, or +30m from A."""
    first, slash, last = text.partition("/")
    if not slash or not first.strip() or not last.strip():
        raise UsageError(f"{option}: {text!r} is not a window", "write START/END, for example 10:00/11:00")
    since = parse_time(first, option, probe.end, session.zone)
    if last.strip().startswith("+"):
        from datetime import timedelta

        from netrec.text import parse_duration

        try:
            until = since + timedelta(seconds=parse_duration(last.strip()[1:]))
        except ValueError as problem:
            raise UsageError(f"{option}: {problem}") from None
    else:
        # An end may leave out the day of its start: 2026-11-20T10:00/11:00.
        until = parse_time(last, option, probe.end, session.zone, after=since)
    if until <= since:
        raise UsageError(f"{option}: {text!r} ends before it starts", "swap the two times")
    return Interval(since.isoformat(), until.isoformat())


def open_sides(
    session: Session, traces: Sequence[str], baseline: str | None, candidate: str | None
) -> tuple[Scan, Scan]:
    """Open both sides; raises `UsageError` when the command line names neither two traces nor two windows."""
    if len(traces) == 2 and not baseline and not candidate:
        return session.open([traces[0]]), session.open([traces[1]])
    if baseline is None:
        raise UsageError(
            "there is nothing to compare with",
            "give two traces, BASELINE CANDIDATE, or one trace with --baseline START/END",
        )
    if len(traces) > 2:
        raise UsageError(f"{len(traces)} traces are too many", "give one, or a baseline and a candidate")
    before, after = (traces[0], traces[-1]) if traces else ("trace", "trace")
    probe = session.open([before])
    first = parse_interval(baseline, "--baseline", probe, session)
    if candidate:
        other = probe if after == before else session.open([after])
        second = parse_interval(candidate, "--candidate", other, session)
    elif session.since or session.until or session.last:
        return session.open([before], since=first.since, until=first.until), session.open([after])
    else:
        second = Interval(first.until, None)
    return (
        session.open([before], since=first.since, until=first.until),
        session.open([after], since=second.since, until=second.until),
    )
