"""Which protocols to record: the names of the setting. Imports nothing, so that it can be shown at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NAMES = ("tcp", "udp", "icmp", "other")
# What needs no work per packet; the others are asked for.
DEFAULT = ("tcp",)


def parse(name: str) -> str:
    """One of NAMES; raises `ValueError` for anything else."""
    if name not in NAMES:
        raise ValueError(f"{name!r} is not one of {', '.join(NAMES)}")
    return name


def chosen(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The protocols to record."""
    return tuple(settings.get("protocols", DEFAULT))
