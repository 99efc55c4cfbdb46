"""The TLS ClientHello (RFC 8446 section 4.1.2): server name, first ALPN protocol, highest version offered.

Only looked at, on the bytes that pass anyway. The hello may be split over TCP segments and over TLS records;
GREASE values (RFC 8701) are skipped; with Encrypted Client Hello the name is the public one of the outer hello.
Work and memory are bounded by `LIMIT`, whatever a stranger sends. There is no maintained small library
for this: the ones that parse a ClientHello (scapy, dpkt) are packet toolkits or heavy.
"""

from __future__ import annotations

from typing import NamedTuple

# No hello in the field comes near this (the largest, with post-quantum key shares, have about 2 KB).
LIMIT = 16384
_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_NAME_LIMIT = 255


class Hello(NamedTuple):
    """What a ClientHello says; an empty text where it says nothing. `version` is one of 1.0 ... 1.3."""

    server_name: str
    version: str
    alpn: str


def looks_like_tls(data: bytes) -> bool:
    """Whether the first bytes (at least one) can be the start of a TLS record that holds a handshake."""
    return data[0] == 22 and (len(data) < 2 or data[1] == 3)


def parse(data: bytes) -> Hello | None:
    """The hello in the first bytes that a client sent.

    Returns None when more bytes are needed; a `Hello` with empty texts when it is no well-formed
    ClientHello or longer than `LIMIT`. Never raises.
    """
    try:
        message = _handshake(data)
    except (IndexError, ValueError):
        return Hello("", "", "")
    if message is None:
        return Hello("", "", "") if len(data) >= LIMIT else None
    try:
        return _hello(message)
    except (IndexError, ValueError):
        return Hello("", "", "")


def _handshake(data: bytes) -> bytes | None:
    """The body of the first handshake message, put together from its records; None when it is not all there."""
    at, message = 0, b""
    while True:
        header = data[at : at + 5]
        if len(header) < 5:
            # What is there must at least be right so far.
            if header and not looks_like_tls(header):
                raise ValueError("not a handshake record")
            return None
        size = int.from_bytes(header[3:5], "big")
        if header[0] != 22 or header[1] != 3 or not 0 < size <= LIMIT:
            raise ValueError("not a handshake record")
        message += data[at + 5 : at + 5 + size]
        if message and message[0] != 1:
            raise ValueError("not a ClientHello")
        if len(message) >= 4:
            length = int.from_bytes(message[1:4], "big")
            if length > LIMIT:
                raise ValueError("too long for a ClientHello")
            if len(message) >= 4 + length:
                return message[4 : 4 + length]
        at += 5 + size


def _hello(body: bytes) -> Hello:
    version = _VERSIONS.get(int.from_bytes(_exact(body, 0, 2), "big"), "")
    at = 34
    at += 1 + body[at]  # session id
    at += 2 + int.from_bytes(_exact(body, at, 2), "big")  # cipher suites
    at += 1 + body[at]  # compression methods
    server_name = alpn = ""
    if at == len(body):
        return Hello("", version, "")
    end = at + 2 + int.from_bytes(_exact(body, at, 2), "big")
    if end > len(body):
        raise ValueError("extensions are cut off")
    at += 2
    while at + 4 <= end:
        kind = int.from_bytes(body[at : at + 2], "big")
        size = int.from_bytes(body[at + 2 : at + 4], "big")
        value = _exact(body, at + 4, size)
        at += 4 + size
        if kind == 0:
            server_name = _server_name(value)
        elif kind == 16:
            alpn = _first_protocol(value)
        elif kind == 43:
            version = _highest_version(value) or version
    return Hello(server_name, version, alpn)


def _exact(data: bytes, at: int, size: int) -> bytes:
    part = data[at : at + size]
    if len(part) != size:
        raise ValueError("cut off")
    return part


def _server_name(value: bytes) -> str:
    """RFC 6066 section 3: a list of typed names; type 0 is a host name."""
    at = 2
    while at + 3 <= len(value):
        kind, size = value[at], int.from_bytes(value[at + 1 : at + 3], "big")
        name = _exact(value, at + 3, size)
        if kind == 0:
            return name[:_NAME_LIMIT].decode("ascii", "backslashreplace").rstrip(".").lower()
        at += 3 + size
    return ""


def _first_protocol(value: bytes) -> str:
    """RFC 7301 section 3.1: length-prefixed names, most wanted first."""
    at = 2
    while at < len(value):
        name = _exact(value, at + 1, value[at])
        if not _grease(name):
            return name.decode("ascii", "backslashreplace")
        at += 1 + len(name)
    return ""


def _highest_version(value: bytes) -> str:
    """RFC 8446 section 4.2.1: a list of two-byte versions, in any order."""
    listed = value[1 : 1 + value[0]]
    numbers = [int.from_bytes(listed[i : i + 2], "big") for i in range(0, len(listed) - 1, 2)]
    return _VERSIONS.get(max((number for number in numbers if number in _VERSIONS), default=0), "")


def _grease(name: bytes) -> bool:
    return len(name) == 2 and name[0] == name[1] and name[0] & 0x0F == 0x0A
