"""The head of the first HTTP/1 request (RFC 9112) and the status line of its response.

Only looked at, on the bytes that pass anyway. Work and memory are bounded by `LIMIT`. h11, the well-kept pure
Python parser, takes about 60 us for a request that this takes 3 us for, which is a third of what a whole session
costs here; the tests hold this parser against it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LIMIT = 16384
PATH_LIMIT = 1024
_HOST_LIMIT = 255

# The first line, and a Host header in the lines before the empty one. A method is a token (RFC 9110 5.6.2).
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}"
_REQUEST = re.compile(rb"(?:\r?\n)*(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.[0-9]\r?\n")
_HOST = b"\nhost:"
_HEAD_END = re.compile(rb"\n\r?\n")
_START = re.compile(rb"(?:\r?\n)*(?:\r|" + _TOKEN + rb"(?: [\x21-\x7e\x80-\xff]*(?: [HTP/1.0-9]{0,8}\r?)?)?)?\Z")
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-5][0-9][0-9])[ \r\n]")
_AUTHORITY = re.compile(r"(?:[^/@]*@)?(\[[0-9A-Fa-f:.]+\]|[^/:@]*)(?::[0-9]*)?\Z")


class Request(NamedTuple):
    """What a request's head says; an empty text where it says nothing."""

    method: str
    host: str
    path: str


NOTHING = Request("", "", "")


def parse_request(data: bytes, keep_query: bool = False) -> Request | None:
    """The request in the first bytes that a client sent.

    Returns None when more bytes are needed, `NOTHING` when it is no HTTP/1 request or its head is longer
    than `LIMIT`. `host` is the Host header, or the authority of an absolute target, as sent; the path comes
    without its query unless `keep_query`. Never raises.
    """
    line = _REQUEST.match(data)
    if line is None:
        return None if len(data) < LIMIT and _START.match(data) else NOTHING
    method, target = line[1].decode("ascii"), line[2].decode("utf-8", "backslashreplace")
    begin = line.end() - 1
    head_end = _HEAD_END.search(data, begin)
    # Both the header's start and its end lie within the head.
    head = data[begin : head_end.start() + 1 if head_end else len(data)]
    found = head.lower().find(_HOST)
    last = head.find(b"\n", found + 1) if found >= 0 else -1
    if last < 0 and head_end is None and len(data) < LIMIT:
        return None
    host = head[found + len(_HOST) : last].strip().decode("utf-8", "backslashreplace") if last >= 0 else ""
    if not target.startswith("/"):
        authority, target = _split(method, target)
        host = host or authority
    if not keep_query:
        target = target.partition("?")[0].partition("#")[0]
    return Request(method, host[:_HOST_LIMIT], target[:PATH_LIMIT])


def _split(method: str, target: str) -> tuple[str, str]:
    """Authority and path of a target that is not a path: absolute (to a proxy), authority (CONNECT), `*`."""
    if method == "CONNECT":
        return target, ""
    scheme, found, rest = target.partition("://")
    if not found or not scheme.isalpha():
        return "", target
    authority, slash, path = rest.partition("/")
    return authority.partition("?")[0].rpartition("@")[2], slash + path if slash else "/"


def parse_status(data: bytes) -> int | None:
    """The status in the first bytes that a server sent, past interim (1xx) responses.

    None: more bytes are needed. -1: no HTTP/1 response.
    """
    at = 0
    while True:
        found = _STATUS.match(data, at)
        if found is None:
            prefix = data[at : at + 13]
            can_be = len(prefix) < 13 and b"HTTP/1."[: len(prefix)] == prefix[:7]
            return None if can_be and len(data) < LIMIT else -1
        status = int(found[1])
        if status >= 200 or status == 101:
            return status
        end = _HEAD_END.search(data, found.end() - 1)
        if end is None:
            return None if len(data) < LIMIT else status
        at = end.end()


def name_of(host: str) -> str:
    """The name in a Host header: without port and without brackets, in lower case."""
    found = _AUTHORITY.match(host)
    return found[1].strip("[]").rstrip(".").lower() if found else ""
