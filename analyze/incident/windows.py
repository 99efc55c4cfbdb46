"""The window to explain: asked for, or found in the trace; and the baseline that it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyze.incident.series import Grid
from analyze.statistics.timeline import Movement, windows

BASELINE_FACTOR = 4
LEAST_BASELINE = 300_000_000  # five minutes, microseconds
AROUND = 120_000_000  # two minutes around --at when nothing moved there


@dataclass(frozen=True)
class Span:
    """[start, end), microseconds since 1970, UTC."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Length."""
        return (self.end - self.start) / 1e6


def found_windows(movements: Sequence[Movement], on: Grid) -> list[Span]:
    """Candidate windows, the most abnormal first."""
    return [Span(on.time(start), on.time(end)) for start, end, _ in windows(movements, on.count)]


def window_at(moment: int, movements: Sequence[Movement], on: Grid) -> Span:
    """The abnormal window that holds `moment` or comes next to it; two minutes around it when nothing moved."""
    near = 5 * on.width
    candidates = [
        Span(on.time(one.start), on.time(one.end))
        for one in movements
        if one.bad and on.time(one.start) - near <= moment <= on.time(one.end) + near
    ]
    if not candidates:
        return Span(max(on.start, moment - AROUND // 2), min(on.end, moment + AROUND // 2))
    return Span(min(span.start for span in candidates), max(span.end for span in candidates))


def baseline_of(window: Span, whole: Span, others: Sequence[Span] = ()) -> Span | None:
    """The quiet time before the window (four times as long, five minutes at least), else the time after it.

    It does not reach into another abnormal window. None when the trace has nothing but the window.
    """
    length = max(BASELINE_FACTOR * (window.end - window.start), LEAST_BASELINE)
    earliest = max([whole.start, *(span.end for span in others if span.end <= window.start)])
    before = Span(max(earliest, window.start - length), window.start)
    latest = min([whole.end, *(span.start for span in others if span.start >= window.end)])
    after = Span(window.end, min(latest, window.end + length))
    if before.seconds >= min(30.0, after.seconds) and before.seconds > 0:
        return before
    return after if after.seconds > 0 else None
