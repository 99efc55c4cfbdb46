"""Source `host`: how much of the host's network resources is used, against their limits. Fills the table `host`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netrec.text import parse_duration
from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification


def _interval(text: str) -> float:
    seconds = parse_duration(text)
    if not 1 <= seconds <= 3600:
        raise ValueError(f"{text!r} is not between 1s and 1h")
    return seconds


def _create(context: CaptureContext) -> Source:
    from recorder.sources.host.live import HostSource

    return HostSource(context)


def _can_run(settings: Mapping[str, Any]) -> Readiness:
    from recorder.sources.host.live import readiness

    return readiness(settings)


SOURCE = SourceSpecification(
    name="host",
    summary="links, connection tracking, ephemeral ports, listen queues, memory and CPU, against their limits",
    tables=("host",),
    first_question="analyze capacity",
    can_run=_can_run,
    create=_create,
    filters="none",
    settings=(
        Setting("host-interval", 10.0, "Read the host's gauges at this interval.", _interval, "TIME"),
        Setting(
            "host-netns",
            (),
            "Network namespaces to read: a name of ip netns, a path, a process id, or all (default: its own).",
            str,
            "NAME",
            True,
        ),
    ),
)
