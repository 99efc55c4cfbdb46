"""Address -> the name that was asked for, by whom, and for how long the answer holds."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAXIMUM_NAMES = 65_536
# Programs use an address for longer than its time to live says, and cut the longest ones off; the one that asked
# goes on with its address (a pool of connections, a server that resolves its peers when it starts).
MINIMUM_SECONDS = 60
MINIMUM_SECONDS_OF_ASKER = 3_600
MAXIMUM_SECONDS = 86_400
# An address that many names lead to (a content network): so many of the last ones are told apart by time.
_NAMES_OF_AN_ADDRESS = 4


class Place(NamedTuple):
    """Where a name holds: in a network namespace (its inode), for one process or (pid 0) for all there."""

    netns: int
    pid: int
    address: str


class Learned(NamedTuple):
    """That an address was given for `name`, from one moment to another (us)."""

    name: str
    since_us: int
    until_us: int


class NameTable:
    """The last names that led to each address; bounded: the place that was used longest ago goes first."""

    def __init__(self, maximum: int = MAXIMUM_NAMES) -> None:
        self._maximum = maximum
        self._places: OrderedDict[Place, tuple[Learned, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def learn(self, name: str, address: str, ttl: int, time_us: int, netns: int = 0, pid: int = 0) -> None:
        """An answer to `pid` (0: not known) seen at `time_us` gave `address` for `name`, for `ttl` seconds."""
        self._learn(Place(netns, 0, address), name, time_us, max(ttl, MINIMUM_SECONDS))
        if pid:
            self._learn(Place(netns, pid, address), name, time_us, max(ttl, MINIMUM_SECONDS_OF_ASKER))

    def history(self, address: str, netns: int = 0, pid: int = 0) -> list[Learned]:
        """The names of `address` there, those that count for more last: what this process asked itself, then the newer.

        Holds for a moment t: the last one with since_us <= t <= until_us.
        """
        found: list[Learned] = []
        for place in (Place(netns, 0, address), Place(netns, pid, address)) if pid else (Place(netns, 0, address),):
            known = self._places.get(place)
            if known:
                self._places.move_to_end(place)  # a flow that goes on keeps its name
                found += known
        return found

    def name_for(self, address: str, time_us: int, netns: int = 0, pid: int = 0) -> str | None:
        """What `address` was called at `time_us`; None: not known, or no longer."""
        for learned in reversed(self.history(address, netns, pid)):
            if learned.since_us <= time_us <= learned.until_us:
                return learned.name
        return None

    def _learn(self, place: Place, name: str, time_us: int, seconds: int) -> None:
        until = time_us + min(seconds, MAXIMUM_SECONDS) * 1_000_000
        known = self._places.pop(place, ())
        since = time_us
        if known and known[-1].name == name and known[-1].until_us >= time_us:
            since, known = known[-1].since_us, known[:-1]
        self._places[place] = (*known[1 - _NAMES_OF_AN_ADDRESS :], Learned(name, since, until))
        if len(self._places) > self._maximum:
            self._places.popitem(last=False)
