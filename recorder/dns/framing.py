"""DNS over TCP: every message stands behind its length in two bytes (RFC 1035, 4.2.2), across segments as it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_MAXIMUM_DIRECTIONS = 128
_MAXIMUM_WAITING = 2 + 65535


@dataclass
class _Stream:
    """One direction: the bytes that no message has yet, and the number of the byte that comes next (None: not known).

    `lost` once bytes are missing: where the next message begins cannot be known.
    """

    waiting: bytes = b""
    expected: int | None = None
    lost: bool = False


class TcpFraming:
    """Cuts the payload of TCP segments into messages, for each direction of each connection.

    With sequence numbers a segment that comes again counts once, and after one that was missed the direction gives
    nothing more. What is kept is bounded: the longest-silent direction is forgotten first.
    """

    def __init__(self) -> None:
        self._streams: OrderedDict[Hashable, _Stream] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def feed(self, direction: Hashable, payload: bytes, sequence: int | None = None) -> list[bytes]:
        """The messages that this segment completes. `direction` identifies one side of one connection.

        `sequence` is the 32-bit number of the payload's first byte; None: the segments come in order, each once.
        """
        stream = self._streams.pop(direction, None) or _Stream()
        self._streams[direction] = stream
        if len(self._streams) > _MAXIMUM_DIRECTIONS:
            self._streams.popitem(last=False)
        payload = _new_bytes(stream, payload, sequence)
        if stream.lost:
            return []
        content = stream.waiting + payload
        messages = []
        position = 0
        while len(content) - position >= 2:
            length = int.from_bytes(content[position : position + 2], "big")
            if position + 2 + length > len(content):
                break
            messages.append(content[position + 2 : position + 2 + length])
            position += 2 + length
        stream.waiting = content[position : position + _MAXIMUM_WAITING]
        return messages

    def lost(self, direction: Hashable) -> bool:
        """Whether a segment of this direction was missed."""
        stream = self._streams.get(direction)
        return stream is not None and stream.lost

    def forget(self, direction: Hashable) -> None:
        """The connection has ended, or a new one begins with the same addresses and ports."""
        self._streams.pop(direction, None)


def _new_bytes(stream: _Stream, payload: bytes, sequence: int | None) -> bytes:
    """What of the payload has not been seen yet."""
    if sequence is None:
        return payload
    ahead = 0
    if stream.expected is not None:
        ahead = (sequence - stream.expected + 2**31) % 2**32 - 2**31
    if ahead > 0:
        stream.lost, stream.waiting = True, b""
    fresh = payload[-ahead:] if ahead < 0 else payload
    if ahead >= 0 or fresh:
        stream.expected = (sequence + len(payload)) % 2**32
    return fresh
