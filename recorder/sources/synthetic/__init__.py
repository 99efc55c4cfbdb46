"""Source `synthetic`: flows that never were, for benchmarks, tests and long histories. Touches no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number of flows per second") from None
    if not 0 <= rate <= 10_000_000:
        raise ValueError(f"{text!r} is not between 0 and 10000000 flows per second")
    return rate


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a whole number from 0 upwards")
    return int(text)


def _create(context: CaptureContext) -> Source:
    from recorder.sources.synthetic.live import SyntheticSource

    return SyntheticSource(context)


def _can_run(settings: Mapping[str, Any]) -> Readiness:
    return Readiness(True)


SOURCE = SourceSpecification(
    name="synthetic",
    summary="invented flows, for benchmarks and trying things out; records nothing of this host",
    tables=("flows",),
    can_run=_can_run,
    create=_create,
    settings=(
        Setting("synthetic-rate", 1000.0, "Flows per second.", _rate, "N"),
        Setting("synthetic-seed", 1, "Seed of the random numbers.", _count, "N"),
        Setting("synthetic-clients", 2000, "Distinct client addresses.", _count, "N"),
        Setting("synthetic-long-lived", 10, "Connections that never end.", _count, "N"),
        Setting(
            "synthetic-fail-after",
            0,
            "Fail after so many rows, to try out what happens then (0: never).",
            _count,
            "ROWS",
        ),
    ),
)
