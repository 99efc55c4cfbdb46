"""Address -> the name that a host asked for, for as long as the answer lives."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

MAXIMUM_NAMES = 65_536
# Programs use an address for longer than its time to live says, and cut the shortest ones off.
MINIMUM_SECONDS = 60
MAXIMUM_SECONDS = 86_400


class NameTable:
    """The last name that led to each address; bounded: the one that was learned longest ago goes first."""

    def __init__(self, maximum: int = MAXIMUM_NAMES) -> None:
        self._maximum = maximum
        self._names: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, name: str, address: str, ttl: int, time_us: int) -> None:
        """An answer seen at `time_us` gave `address` for `name`, for `ttl` seconds."""
        seconds = min(max(ttl, MINIMUM_SECONDS), MAXIMUM_SECONDS)
        self._names.pop(address, None)
        self._names[address] = (name, time_us + seconds * 1_000_000)
        if len(self._names) > self._maximum:
            self._names.popitem(last=False)

    def names_for(self, addresses: Iterable[str], time_us: int) -> list[str | None]:
        """The name of each address at `time_us`; None: none is known, or no longer."""
        found: list[str | None] = []
        for address in addresses:
            name, until = self._names.get(address, (None, 0))
            found.append(name if time_us <= until else None)
        return found
