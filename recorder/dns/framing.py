"""DNS over TCP: every message stands behind its length in two bytes (RFC 1035, 4.2.2), across segments as it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

_MAXIMUM_DIRECTIONS = 128
_MAXIMUM_WAITING = 2 + 65535


class TcpFraming:
    """Cuts the payload of TCP segments into messages, for each direction of each connection.

    Segments must come in order; after one that was missed the stream of that direction gives nothing sensible, which
    the parser of the messages notices. What is kept is bounded: the longest-silent direction is forgotten first.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[Hashable, bytes] = OrderedDict()

    def feed(self, direction: Hashable, payload: bytes) -> list[bytes]:
        """The messages that this segment completes. `direction` identifies one side of one connection."""
        content = self._waiting.pop(direction, b"") + payload
        messages = []
        position = 0
        while len(content) - position >= 2:
            length = int.from_bytes(content[position : position + 2], "big")
            if position + 2 + length > len(content):
                break
            messages.append(content[position + 2 : position + 2 + length])
            position += 2 + length
        rest = content[position:]
        if rest:
            self._waiting[direction] = rest[:_MAXIMUM_WAITING]
            if len(self._waiting) > _MAXIMUM_DIRECTIONS:
                self._waiting.popitem(last=False)
        return messages

    def forget(self, direction: Hashable) -> None:
        """The connection has ended."""
        self._waiting.pop(direction, None)
