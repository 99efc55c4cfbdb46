"""The bytes of one DNS message -> its question and its addresses (RFC 1035; EDNS's longer code: RFC 6891).

Bounded whatever the bytes are: a compression pointer only leads further back, a name has at most 255 bytes, and
no more records are read than there are bytes. A message that was cut off gives the records that are whole.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache
from typing import NamedTuple

_HEADER = struct.Struct("!HHHHHH")
_QUESTION_END = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_MAXIMUM_NAME = 255
_INTERNET = 1
_A, _CNAME, _AAAA, _OPT = 1, 5, 28, 41
_TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 65: "HTTPS"}
_CODES = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
    6: "YXDOMAIN",
    7: "YXRRSET",
    8: "NXRRSET",
    9: "NOTAUTH",
    10: "NOTZONE",
    16: "BADVERS",
    23: "BADCOOKIE",
}


class DnsFormatError(ValueError):
    """The bytes are no DNS message; says why."""


class AddressRecord(NamedTuple):
    """An address that the answer gives for the question's name, directly or through aliases. `ttl` in seconds."""

    address: str
    ttl: int


class DnsMessage(NamedTuple):
    """What netrec uses of a message.

    `name` is the question's name in lower case, in presentation format without the last dot (`.` for the root):
    bytes that are not printable are escaped as \\DDD. `type` is `A`, `AAAA`, ... or `TYPE99`. `code` is the
    answer's code by name. `whole` is False when records were cut off or the message says that it is truncated.
    """

    identifier: int
    is_answer: bool
    name: str
    type: str
    code: str
    addresses: tuple[AddressRecord, ...] = ()
    truncated: bool = False
    whole: bool = True


def parse(payload: bytes) -> DnsMessage:
    """The message; raises `DnsFormatError` when header or question are wrong, or a name in an answer is."""
    if len(payload) < _HEADER.size:
        raise DnsFormatError("shorter than a header")
    identifier, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(payload)
    if questions != 1:
        raise DnsFormatError(f"{questions} questions")
    if flags >> 11 & 15:
        raise DnsFormatError("not a standard query")
    name, position = _name(payload, _HEADER.size)
    if position + _QUESTION_END.size > len(payload):
        raise DnsFormatError("the question is cut off")
    kind, _ = _QUESTION_END.unpack_from(payload, position)
    position += _QUESTION_END.size
    code, truncated, whole = flags & 15, bool(flags & 0x0200), True
    addresses: list[AddressRecord] = []
    aliases = {name: 2**31 - 1}
    names = {_HEADER.size: name}
    if flags & 0x8000:
        total = answers + authorities + additionals
        for index in range(total):
            record = _record(payload, position, names)
            if record is None:
                whole = False
                break
            owner, record_kind, record_class, ttl, start, position = record
            if record_kind == _OPT and index >= answers + authorities:
                code |= (ttl >> 24) << 4
            elif index < answers and record_class == _INTERNET and owner in aliases:
                ttl = min(0 if ttl >> 31 else ttl, aliases[owner])
                if record_kind == _CNAME:
                    aliases[_name(payload, start)[0]] = ttl
                elif record_kind == _A and position - start == 4:
                    addresses.append(AddressRecord(socket.inet_ntop(socket.AF_INET, payload[start:position]), ttl))
                elif record_kind == _AAAA and position - start == 16:
                    addresses.append(AddressRecord(socket.inet_ntop(socket.AF_INET6, payload[start:position]), ttl))
    return DnsMessage(
        identifier=identifier,
        is_answer=bool(flags & 0x8000),
        name=name,
        type=_TYPES.get(kind) or f"TYPE{kind}",
        code=_CODES.get(code) or f"RCODE{code}",
        addresses=tuple(addresses),
        truncated=truncated,
        whole=whole and not truncated,
    )


def _record(payload: bytes, position: int, names: dict[int, str]) -> tuple[str, int, int, int, int, int] | None:
    """Owner, type, class, ttl, start and end of the data of the record at `position`; None when it is cut off.

    `names` are those read already, by their place: nearly every owner is a pointer to one of them.
    """
    target = int.from_bytes(payload[position : position + 2], "big") - 0xC000
    owner = names.get(target, "")
    if owner:
        position += 2
    else:
        try:
            owner, after = _name(payload, position)
        except _CutOffError:
            return None
        names[target if target >= 0 else position] = owner
        position = after
    start = position + _RECORD.size
    if start > len(payload):
        return None
    kind, record_class, ttl, length = _RECORD.unpack_from(payload, position)
    if start + length > len(payload):
        return None
    return owner, kind, record_class, ttl, start, start + length


class _CutOffError(DnsFormatError):
    """The bytes end within a name."""


def _name(payload: bytes, position: int) -> tuple[str, int]:
    """The name at `position` in presentation format, and where what follows it begins."""
    labels = []
    after = -1  # behind the first pointer
    length = 0
    end = len(payload)
    while True:
        if position >= end:
            raise _CutOffError("a name is cut off")
        size = payload[position]
        if size < 64:
            if not size:
                break
            length += size + 1
            if length >= _MAXIMUM_NAME:
                raise DnsFormatError("a name of more than 255 bytes")
            if position + 1 + size > end:
                raise _CutOffError("a name is cut off")
            labels.append(payload[position + 1 : position + 1 + size])
            position += 1 + size
        elif size >= 192:
            if position + 1 >= end:
                raise _CutOffError("a name is cut off")
            target = (size & 63) << 8 | payload[position + 1]
            if target >= position:
                raise DnsFormatError("a compression pointer that does not lead back")
            if after < 0:
                after = position + 2
            length += 1  # so that pointers that chase pointers come to an end, too
            if length >= _MAXIMUM_NAME:
                raise DnsFormatError("a name of more than 255 bytes")
            position = target
        else:
            raise DnsFormatError("a label of unknown type")
    return _presented(labels), (position + 1 if after < 0 else after)


def _presented(labels: list[bytes]) -> str:
    return ".".join(_label(label) for label in labels).lower() or "."


@lru_cache(maxsize=4096)
def _label(label: bytes) -> str:
    if label.replace(b"-", b"").replace(b"_", b"").isalnum():
        return label.decode("ascii")
    return "".join(map(_character, label))


def _character(byte: int) -> str:
    if byte in b'.\\"();@$':
        return "\\" + chr(byte)
    return chr(byte) if 33 <= byte <= 126 else f"\\{byte:03d}"
