"""The known ways in which networks fail, each by its signature: which of its signals match, fail, or were not recorded.

A pattern fits when at least two of its independent signals match and none of those that it cannot do without
fails. Ranking is by the share of the known signals that match, then by their number. A signal that the trace
cannot answer (no events, no host table) is listed as missing and counts a little against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Signals = Mapping[str, float]
NEEDED = 2


@dataclass(frozen=True)
class Signal:
    """One observation: `test` says yes or no, or None when the measurements it needs are NaN or absent.

    `vital` signals must not be contradicted; `weight` counts in the ranking.
    """

    text: str
    test: Callable[[Signals], bool | None]
    vital: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Pattern:
    """A known pattern and what an engineer does next; `shows` are the metrics that tell it best, the first the best."""

    name: str
    title: str
    signals: tuple[Signal, ...]
    advice: str
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """A pattern held against one incident; the texts of its signals by outcome."""

    pattern: Pattern
    matched: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    score: float

    @property
    def summary(self) -> str:
        """For example `accept-queue overflow (3/3 signals)`."""
        return f"{self.pattern.title} ({len(self.matched)}/{len(self.pattern.signals)} signals)"


def value(signals: Signals, name: str) -> float:
    """A measurement; NaN when it was not made."""
    found = signals.get(name)
    return math.nan if found is None else float(found)


def at_least(name: str, least: float) -> Callable[[Signals], bool | None]:
    """The measurement reaches `least`."""

    def test(signals: Signals) -> bool | None:
        measured = value(signals, name)
        return None if math.isnan(measured) else measured >= least

    return test


def at_most(name: str, most: float) -> Callable[[Signals], bool | None]:
    """The measurement does not pass `most`."""

    def test(signals: Signals) -> bool | None:
        measured = value(signals, name)
        return None if math.isnan(measured) else measured <= most

    return test


def risen(name: str, factor: float, least: float) -> Callable[[Signals], bool | None]:
    """`name` is at least `least` and `factor` times its baseline `name_before` (an unknown baseline counts as 0)."""

    def test(signals: Signals) -> bool | None:
        now, before = value(signals, name), value(signals, f"{name}_before")
        if math.isnan(now):
            return None
        return now >= least and now >= factor * (0.0 if math.isnan(before) else before)

    return test


def not_risen(name: str, factor: float, most: float) -> Callable[[Signals], bool | None]:
    """`name` is at most `most`, or at most `factor` times its baseline."""

    def test(signals: Signals) -> bool | None:
        now, before = value(signals, name), value(signals, f"{name}_before")
        if math.isnan(now):
            return None
        return now <= max(most, factor * (0.0 if math.isnan(before) else before))

    return test


def any_of(*tests: Callable[[Signals], bool | None]) -> Callable[[Signals], bool | None]:
    """One of them holds; None when none holds and one is unknown."""

    def test(signals: Signals) -> bool | None:
        answers = [part(signals) for part in tests]
        if any(answers):
            return True
        return None if None in answers else False

    return test


def all_of(*tests: Callable[[Signals], bool | None]) -> Callable[[Signals], bool | None]:
    """All of them hold; False when one does not, None when only unknown ones are left."""

    def test(signals: Signals) -> bool | None:
        answers = [part(signals) for part in tests]
        if False in answers:
            return False
        return None if None in answers else True

    return test


def match(signals: Signals, patterns: tuple[Pattern, ...]) -> list[Match]:
    """The patterns that fit, the best first; empty when none does."""
    found = [_hold(pattern, signals) for pattern in patterns]
    return sorted(
        (entry for entry in found if entry is not None),
        key=lambda entry: (-entry.score, -len(entry.matched), entry.pattern.name),
    )


def _hold(pattern: Pattern, signals: Signals) -> Match | None:
    outcomes = [(signal, signal.test(signals)) for signal in pattern.signals]
    matched = [signal for signal, answer in outcomes if answer]
    failed = [signal for signal, answer in outcomes if answer is False]
    if len(matched) < NEEDED or any(signal.vital for signal in failed):
        return None
    weight = sum(signal.weight for signal in matched)
    known = weight + sum(signal.weight for signal in failed)
    # A signal that could not be seen counts a little against: a fuller match comes first.
    unseen = sum(signal.weight for signal, answer in outcomes if answer is None)
    return Match(
        pattern,
        tuple(signal.text for signal in matched),
        tuple(signal.text for signal in failed),
        tuple(signal.text for signal, answer in outcomes if answer is None),
        weight / (known + 0.25 * unseen),
    )
