"""One resource against its limit: what is used, what is left, and when it fills, as far as its history can say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyze.statistics.capacity import headroom, peak_after
from analyze.statistics.extremes import RarePeak, rare_peak
from analyze.statistics.forecast import (
    MINIMUM_DAYS,
    Crossing,
    Forecast,
    after_last_resize,
    first_crossing,
    forecast,
    is_saturated,
)

AT_RISK, FINE, UNKNOWN = "at risk", "fine", "needs more history"


@dataclass(frozen=True)
class Resource:
    """What was measured. `days` are the daily peaks and `limits` the daily limits (NaN: none), one a calendar day,
    NaN for a day without data; `now` is the last value, `peak` the highest, in `unit`. `drops` is how often it turned
    something away (NaN: not counted); `drops_when_full` that it does so for no other reason.
    """

    host: str
    name: str
    unit: str
    now: float
    peak: float
    limit: float
    days: NDArray[np.float64]
    limits: NDArray[np.float64]
    kind: str = "gauge"
    drops: float = math.nan
    drops_when_full: bool = True

    @property
    def share(self) -> float:
        """Peak over limit; NaN without a limit."""
        return self.peak / self.limit if self.limit > 0 else math.nan


@dataclass(frozen=True)
class Outlook:
    """A resource's future. `crossing` in days from the end of the history; None where it cannot be told.

    `after` is the share of the limit that the peak takes after the growth and the loss of hosts that were asked for.
    """

    resource: Resource
    status: str
    reason: str
    headroom: float
    after: float
    history: int
    prediction: Forecast | None = None
    crossing: Crossing | None = None
    rare: RarePeak | None = None


def look(
    resource: Resource,
    *,
    threshold: float = 0.9,
    lead_days: float | None = None,
    growth: float = 0.0,
    hosts: int = 1,
    lost: int = 0,
    seed: int = 0,
) -> Outlook:
    """Judge one resource. `threshold` is the share of the limit that counts as full, `lead_days` the warning that is
    wanted: at risk when one path in ten is full before, fine when the forecast reaches that far and is not.
    """
    start = after_last_resize(_carried(resource.limits))
    days = resource.days[start:]
    history = int(np.isfinite(days).sum())
    full = threshold * resource.limit
    after = peak_after(resource.peak, growth=growth, hosts=hosts, lost=lost) / resource.limit
    if not resource.limit > 0:
        return Outlook(resource, FINE, "it has no limit", math.nan, math.nan, history)
    rare = rare_peak(days, full)
    bound = max(resource.peak, rare.level if rare and not rare.indicative else 0.0)
    room = headroom(bound, resource.limit)
    if resource.peak >= full:
        saturated = is_saturated(days, resource.limit)
        reason = "its demand is cut off at the limit: more is wanted than is seen" if saturated else ""
        return Outlook(resource, AT_RISK, reason or "it has been full already", room, after, history, rare=rare)
    if resource.drops > 0 and resource.drops_when_full:
        # Readings are means or moments: what it dropped, it was too small for.
        return Outlook(
            resource, AT_RISK, "it dropped: it was full, whatever its readings say", room, after, history, rare=rare
        )
    if history < MINIMUM_DAYS:
        resized = " since its limit changed" if start else ""
        reason = f"{history} of {MINIMUM_DAYS} days{resized}: a date needs more history"
        return Outlook(resource, UNKNOWN, reason, room, after, history, rare=rare)
    if np.nanmax(days) == np.nanmin(days):
        return Outlook(resource, FINE, "its daily peak has not changed", room, after, history, rare=rare)
    prediction = forecast(days * (1.0 + growth), seed=seed)
    crossing = first_crossing(prediction, full)
    room = headroom(max(bound, float(prediction.high.max())), resource.limit)
    wanted = crossing.horizon if lead_days is None else lead_days
    if crossing.p10 <= min(wanted, crossing.horizon):
        status, reason = AT_RISK, ""
    elif wanted <= crossing.horizon:
        status, reason = FINE, f"not full within {crossing.horizon} days, as far as its history carries"
    else:
        status, reason = UNKNOWN, f"{history} days of history carry a forecast of {crossing.horizon} days only"
    return Outlook(resource, status, reason, room, after, history, prediction, crossing, rare)


def order(outlooks: list[Outlook]) -> list[Outlook]:
    """What fills first comes first: by the likely date, then by the share of the limit."""

    def key(one: Outlook) -> tuple[float, float]:
        share = one.resource.share
        if one.status == AT_RISK and one.crossing is None:
            return -1.0, -share
        likely = one.crossing.p50 if one.crossing else math.inf
        early = one.crossing.p10 if one.crossing else math.inf
        return min(likely, early * 2), -share if math.isfinite(share) else 0.0

    return sorted(outlooks, key=key)


def _carried(limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Limits with days without data filled from the day before, so that a gap is no resize."""
    known = np.isfinite(limits)
    if not known.any():
        return np.zeros(len(limits))
    last = np.maximum.accumulate(np.where(known, np.arange(len(limits)), 0))
    return np.where(known[last], limits[last], limits[known][0])
