"""Squid's access logs: the native format and `logformat` strings (squid.conf documentation)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from recorder.sources.proxy_logs.formats import Parse, Pattern, Piece, Token, integer, known, milliseconds
from recorder.sources.proxy_logs.session import LoggedSession, Unfit, address, endpoint, host_name, split_target

NATIVE = "%ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt"
_TOKEN = re.compile(
    r"%([\"\[#'/]?)-?\d*(?:\.\d+)?((?:ssl::|tls::|icap::|adapt::|http::)?[<>]?[A-Za-z_]+(?:\{[^}]*\})?)|%%"
)
_PATTERNS = {
    "ts": r"\d+", "tu": r"\d+", "tr": r"\s*-?\d+", ">a": r"\S+", ">p": r"\d+|-", "Ss": r"[A-Z_]+", ">Hs": r"\d+|-",
    "<st": r"-?\d+", ">st": r"-?\d+", "rm": r"\S+", "ru": r"\S+", "un": r"\S+", "Sh": r"[A-Z_0-9]+", "<a": r"\S+",
    "mt": r"\S.*?|",
}  # fmt: skip
_TLS = {"TLS/1.0": "1.0", "TLS/1.1": "1.1", "TLS/1.2": "1.2", "TLS/1.3": "1.3"}


def parser(format: str, keep_query: bool) -> Parse:
    """A parser of lines in a logformat string (empty or `squid`: the native one).

    Raises `ValueError` when the format says no time.
    """
    pattern = Pattern(pieces(NATIVE if format in ("", "squid", "native") else format), _PATTERNS)
    if not {"ts", "tl", "tg"} & set(pattern.names):
        raise ValueError("the logformat has no time (%ts, %tl or %tg)")

    def parse(line: str) -> LoggedSession:
        return _session(pattern.values(line.strip()), keep_query)

    return parse


def pieces(format: str) -> list[Piece]:
    """The literals and codes of a logformat string."""
    found: list[Piece] = []
    at = 0
    for match in _TOKEN.finditer(format):
        quote = '"' if match[1] == '"' else ""
        found.append(format[at : match.start()] + ("%" if match[0] == "%%" else quote))
        if match[0] != "%%":
            found += [Token(match[2]), quote]
        at = match.end()
    found.append(format[at:].rstrip("\n"))
    return [piece for piece in found if piece]


def _end(values: dict[str, str]) -> int:
    try:
        if "ts" in values:
            return int(values["ts"]) * 1_000_000 + int(values.get("tu", "0").ljust(3, "0")[:3]) * 1000
        text = values.get("tl") or values["tg"]
        return int(datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC).timestamp() * 1e6)
    except ValueError:
        raise Unfit("the time cannot be read") from None


def _session(values: dict[str, str], keep_query: bool) -> LoggedSession:
    get = values.get
    end = _end(values)  # Squid writes the line, and its time, when the session is over
    session = LoggedSession(end - (milliseconds((get("tr") or "").strip()) or 0), end)
    session.client_address, session.client_port = address(get(">a") or ""), integer(get(">p"))
    session.server_address, session.server_port = address(get("<a") or ""), integer(get("<p"))
    session.client_bytes, session.server_bytes = integer(get(">st")), integer(get("<st"))
    session.http_status = integer(get(">Hs") or get("<Hs")) or None
    session.http_method = known(get("rm"))
    target = known(get("ru"))
    if target and session.http_method == "CONNECT":
        session.http_host = target
        if session.server_port is None:
            session.server_port = endpoint(target)[1]
    elif target and session.http_method not in (None, "NONE"):
        session.http_host, session.http_path = split_target(target, keep_query)
    if known(get("rp")) and not session.http_path:
        session.http_path = split_target(values["rp"], keep_query)[1]
    name = known(get("ssl::>sni"))
    if name:
        session.server_name, session.server_name_source = name.lower(), "tls"
    elif session.http_host:
        session.server_name, session.server_name_source = host_name(session.http_host), "http"
    session.tls_version = _TLS.get(get("ssl::>negotiated_version") or "")
    status = get("Ss") or ""
    if "ABORTED" in status:
        session.closed_by, session.tcp_close = "client", "rst_received"
    elif "TIMEDOUT" in status:
        session.closed_by, session.tcp_close = "client", "timeout"
    elif session.http_status == 503 and get("Sh", "").endswith("NONE"):
        session.closed_by, session.tcp_close = "server", "connect_failed"
    else:
        session.tcp_close = "fin"
    return session
