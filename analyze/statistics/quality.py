"""May these captures be compared, and how far can they be trusted? Refusals, warnings, and the loss gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WARN_LOSS = 0.01
INCONCLUSIVE_LOSS = 0.05
DIFFERENT_LOSS = 0.01  # one point


@dataclass(frozen=True)
class CaptureQuality:
    """What a window's captures say of themselves; `events_seen` and `events_lost` are sums over its health rows.

    `active_timeouts` are the shortest and the longest in force (seconds). `events_seen` None means that the trace has
    no health table: what was lost is then unknown.
    """

    filters: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    sampling: frozenset[int] = frozenset({1})
    active_timeouts: frozenset[float] = frozenset()
    events_seen: int | None = None
    events_lost: int = 0
    gaps: int = 0

    @property
    def loss(self) -> float | None:
        """Lost share of what happened; None when unknown."""
        if self.events_seen is None:
            return None
        total = self.events_seen + self.events_lost
        return self.events_lost / total if total else 0.0


@dataclass(frozen=True)
class Gate:
    """`refusals`: cannot be compared (exit 2); `inconclusive`: no verdict (exit 3); `warnings`: read with care."""

    refusals: tuple[str, ...] = ()
    inconclusive: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def gate(baseline: CaptureQuality, candidate: CaptureQuality) -> Gate:
    """Hold two windows' captures against each other."""
    refusals: list[str] = []
    inconclusive: list[str] = []
    warnings: list[str] = []
    for name, before, after in (
        ("filters", baseline.filters, candidate.filters),
        ("sources", baseline.sources, candidate.sources),
        ("sampling intervals", baseline.sampling, candidate.sampling),
    ):
        if before != after:
            refusals.append(f"the {name} differ: {_listed(before)} against {_listed(after)}")
    if baseline.active_timeouts != candidate.active_timeouts:
        warnings.append(
            "the active timeouts differ: "
            f"{_listed(baseline.active_timeouts)} against {_listed(candidate.active_timeouts)} seconds"
        )
    losses: Mapping[str, float | None] = {"baseline": baseline.loss, "candidate": candidate.loss}
    for side, loss in losses.items():
        if loss is None:
            warnings.append(f"the {side} has no health table: what it lost is unknown")
        elif loss > INCONCLUSIVE_LOSS:
            inconclusive.append(f"the {side} lost {loss:.1%} of its events, more than {INCONCLUSIVE_LOSS:.0%}")
        elif loss > WARN_LOSS:
            warnings.append(f"the {side} lost {loss:.1%} of its events")
    before_loss, after_loss = baseline.loss, candidate.loss
    if before_loss is not None and after_loss is not None and abs(before_loss - after_loss) > DIFFERENT_LOSS:
        inconclusive.append(f"the losses differ by more than a point: {before_loss:.1%} against {after_loss:.1%}")
    for side, quality in (("baseline", baseline), ("candidate", candidate)):
        if quality.gaps:
            warnings.append(f"the {side} has {quality.gaps} gaps in its recording")
    return Gate(tuple(refusals), tuple(inconclusive), tuple(warnings))


def _listed(values: frozenset) -> str:
    return ", ".join(repr(value) if isinstance(value, str) else f"{value:g}" for value in sorted(values)) or "none"
