"""Which hours of two windows are held against each other: those of the same weekday and time of day.

Traffic has a day and a week in it. When both windows are longer than `PAIR_FROM_HOURS`, every whole hour of one is
paired with an hour of the other that has the same weekday and time of day, each hour once, the ones that are nearest
in time first: a day against the week before it is held against the same day of that week. Where fewer than half of the
shorter window's hours find one (a Tuesday against a Monday), hours are paired by the time of day alone, and the answer
says so; where those are too few, too, the windows are compared as they are, which the answer says as well.

What follows from it:

- Hours without a partner, and the parts of hours at the ends, are left out of every metric and slice on both sides.
- Buckets are cut from the paired hours in the order of the candidate's: as many to an hour as make about 240, so that
  bucket b of one side has the same time of day as bucket b of the other.
- The eight batches are contiguous runs of those buckets, so batch j of both sides covers the same times of day, and
  the test is the paired one: the mean of the eight differences of logarithms against their own spread (7 degrees of
  freedom) instead of Welch's. What the day does to both sides alike cancels.
- The gate looks at the autocorrelation time of the differences between the sides' buckets, not at that of each side,
  in which the day itself would count as a slow fluctuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

HOUR_US = 3_600_000_000
PAIR_FROM_HOURS = 4
MOST_HOURS = 28 * 24
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Pairing:
    """`baseline` and `candidate` are hours since 1970 (UTC), pair by pair; `by` says what they have in common."""

    by: str
    baseline: tuple[int, ...]
    candidate: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.candidate)


def whole_hours(start: int, end: int) -> range:
    """The hours since 1970 that lie wholly within [start, end) (microseconds)."""
    return range(-(-start // HOUR_US), end // HOUR_US)


def applies(baseline: tuple[int, int], candidate: tuple[int, int]) -> bool:
    """Whether both windows (start, end in microseconds) are long enough to be paired."""
    return min(end - start for start, end in (baseline, candidate)) > PAIR_FROM_HOURS * HOUR_US


def pair(baseline: tuple[int, int], candidate: tuple[int, int], zone: tzinfo | None) -> Pairing | None:
    """Pair the hours of two windows (start, end in microseconds); None when too few have a partner.

    Weekday and hour are those of the time zone `zone` (None: this machine's).
    """
    sides = [list(whole_hours(*side))[-MOST_HOURS:] for side in (baseline, candidate)]
    least = LEAST_SHARE * min(len(side) for side in sides)
    for by, weekday in (("hour and weekday", True), ("hour of day", False)):
        found = _pairs(sides[0], sides[1], zone, weekday)
        if len(found) >= max(least, PAIR_FROM_HOURS):
            return Pairing(by, tuple(one for one, _ in found), tuple(other for _, other in found))
    return None


def _pairs(
    baseline: Sequence[int], candidate: Sequence[int], zone: tzinfo | None, weekday: bool
) -> list[tuple[int, int]]:
    slots: dict[tuple[int, int], list[int]] = {}
    # The window that is earlier lends its latest hours first, so that partners are near each other.
    earlier = baseline[0] <= candidate[0] if baseline and candidate else True
    for hour in baseline if earlier else reversed(baseline):
        slots.setdefault(_slot(hour, zone, weekday), []).append(hour)
    found = []
    for hour in candidate if earlier else reversed(candidate):
        there = slots.get(_slot(hour, zone, weekday))
        if there:
            found.append((there.pop(), hour))
    return sorted(found, key=lambda both: both[1])


def _slot(hour: int, zone: tzinfo | None, weekday: bool) -> tuple[int, int]:
    moment = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone)
    return (moment.weekday() if weekday else -1, moment.hour)
