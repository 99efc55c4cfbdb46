"""Envoy's access logs: its default text format, format strings of its command operators, and JSON objects."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from recorder.sources.proxy_logs.formats import Parse, Pattern, Piece, Token, integer, known, milliseconds
from recorder.sources.proxy_logs.session import LoggedSession, Unfit, endpoint, host_name, split_target

DEFAULT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"'
)
_OPERATOR = re.compile(r"%([A-Z_0-9]+)(?:\(([^)]*)\))?(?::\d+)?%")
_PATTERNS = {"START_TIME": r"[^\]]*", "method": r"\S+", "path": r".*?"}
# Operator, with its header in small letters where it has one -> the name that JSON logs give it too.
_NAMES = {
    "START_TIME": "start_time", "BYTES_RECEIVED": "bytes_received", "BYTES_SENT": "bytes_sent",
    "DURATION": "duration", "RESPONSE_CODE": "response_code", "RESPONSE_FLAGS": "response_flags",
    "UPSTREAM_HOST": "upstream_host", "DOWNSTREAM_REMOTE_ADDRESS": "downstream_remote_address",
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": "downstream_direct_remote_address",
    "DOWNSTREAM_LOCAL_ADDRESS": "downstream_local_address", "REQUESTED_SERVER_NAME": "requested_server_name",
    "DOWNSTREAM_TLS_VERSION": "downstream_tls_version", "RESPONSE_DURATION": "response_duration",
    "REQ::method": "method", "REQ:x-envoy-original-path": "path", "REQ::path": "path", "REQ::authority": "authority",
    "REQ:x-forwarded-for": "x_forwarded_for",
}  # fmt: skip
# Response flags (access log documentation): who broke the session off.
_FLAGS = {
    "DC": ("client", "rst_received"), "UC": ("server", "rst_received"), "UR": ("server", "rst_received"),
    "UF": ("server", "connect_failed"), "LR": ("proxy", "rst_sent"), "UT": ("server", "timeout"),
    "SI": ("proxy", "timeout"), "DT": ("proxy", "timeout"),
}  # fmt: skip


def parser(format: str, keep_query: bool) -> Parse:
    """A parser of lines in a format string (empty: the default), or of JSON objects (a line that starts with `{`).

    Raises `ValueError` when the format says no start time.
    """
    pattern = Pattern(pieces(format or DEFAULT), _PATTERNS)
    if "start_time" not in pattern.names:
        raise ValueError("the format has no %START_TIME%")

    def parse(line: str) -> LoggedSession:
        values = _object(line) if line.startswith("{") else pattern.values(line)
        return _session(values, keep_query)

    return parse


def pieces(format: str) -> list[Piece]:
    """The literals and operators of a format string."""
    found: list[Piece] = []
    at = 0
    for match in _OPERATOR.finditer(format):
        found.append(format[at : match.start()])
        header = (match[2] or "").partition("?")[0].lower()
        key = match[1] if match[1] not in ("REQ", "RESP") else f"{match[1]}:{header}"
        found.append(Token(_NAMES.get(key, key)))
        at = match.end()
    found.append(format[at:].rstrip("\n").removesuffix("\\n"))
    return [piece for piece in found if piece]


def _object(line: str) -> dict[str, str]:
    try:
        given: Any = json.loads(line)
    except ValueError as problem:
        raise Unfit(f"the line is no JSON ({problem})") from None
    if not isinstance(given, dict):
        raise Unfit("the line is no JSON object")
    return {str(key).lower(): "" if value is None else str(value) for key, value in given.items()}


def _session(values: dict[str, str], keep_query: bool) -> LoggedSession:
    get = values.get
    try:
        start = int(datetime.fromisoformat(get("start_time") or "").timestamp() * 1e6 + 0.5)
    except (ValueError, OverflowError):
        raise Unfit(f"{get('start_time')!r} is not a time") from None
    session = LoggedSession(start, start + (milliseconds(get("duration")) or 0))
    downstream = known(get("downstream_remote_address")) or known(get("downstream_direct_remote_address"))
    forwarded = (known(get("x_forwarded_for")) or "").partition(",")[0].strip()
    session.client_address, session.client_port = endpoint(downstream or forwarded)
    wanted = known(get("upstream_host")) or known(get("downstream_local_address"))
    session.server_address, session.server_port = endpoint(wanted or "")
    session.client_bytes, session.server_bytes = integer(get("bytes_received")), integer(get("bytes_sent"))
    session.time_to_first_byte_us = milliseconds(get("response_duration"))
    session.http_status = integer(get("response_code")) or None
    session.http_method = known(get("method"))
    if path := known(get("path")):
        session.http_host, session.http_path = split_target(path, keep_query)
    session.http_host = known(get("authority")) or session.http_host
    if name := known(get("requested_server_name")):
        session.server_name, session.server_name_source = name.lower(), "tls"
    elif session.http_host:
        session.server_name, session.server_name_source = host_name(session.http_host), "http"
    session.tls_version = (known(get("downstream_tls_version")) or "").removeprefix("TLSv") or None
    session.tcp_close = "fin"
    for flag in (known(get("response_flags")) or "").split(","):
        if flag in _FLAGS:
            session.closed_by, session.tcp_close = _FLAGS[flag]
    return session
