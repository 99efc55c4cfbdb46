"""One reading of one resource, and the increase of counters between readings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Gauge:
    """How much of a resource is used: a row of the `host` table. `limit` None: it has none, or it is not known."""

    resource: str
    used: float
    limit: float | None
    unit: str


@dataclass
class Increases:
    """Counters that only grow, by name: what each has grown since it was last looked at."""

    previous: dict[str, int] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)

    def of(self, name: str, value: int) -> int | None:
        """The increase; None the first time. A counter that went back (a device made anew) counts from zero."""
        before = self.previous.get(name)
        self.seen[name] = value
        if before is None:
            return None
        return value - before if value >= before else value

    def next(self) -> None:
        """A reading is complete: forget the counters that were not in it."""
        self.previous, self.seen = self.seen, {}


def text(path: str) -> str:
    """The content of a file of /proc; empty when this kernel or namespace does not have it."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def number(path: str) -> int | None:
    """The first number in a file of /proc; None when there is none."""
    words = text(path).split()
    return int(words[0]) if words and words[0].isdigit() else None
