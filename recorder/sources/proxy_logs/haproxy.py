"""HAProxy's logs: options tcplog, httplog, httpslog, and `log-format` strings (configuration manual, chapter 8)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from recorder.sources.proxy_logs.formats import Blanks, Parse, Pattern, Piece, Token, integer, known, milliseconds
from recorder.sources.proxy_logs.session import LoggedSession, Unfit, address, host_name, split_target

TCP = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq"
HTTP = "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc %ac/%fc/%bc/%sc/%rc %sq/%bq %hr %hs %{+Q}r"
HTTPS = (
    HTTP + " %[fc_err]/%[ssl_fc_err,hex]/%[ssl_c_err]/%[ssl_c_ca_err]/%[ssl_fc_is_resumed] %[ssl_fc_sni]/%sslv/%sslc"
)
PRESETS = {"tcp": TCP, "http": HTTP, "https": HTTPS}

_TOKEN = re.compile(r"%(?:\{[^}]*\})?(?:\[([^\]]*)\]|([A-Za-z]+))|%%")
# What stands before the message: a file written by a syslog daemon, or a datagram (RFC 3164 or 5424).
_PREFIX = re.compile(r"^(?:<\d+>)?.*?\bhaproxy\[\d+\]:? ")
_SYSLOG = re.compile(r"^<\d+>(?:1 \S+ \S+ \S+ \S+ \S+ (?:-|\[.*?\]) ?)?")
_ADDRESS, _PORT = r"[0-9A-Fa-f:.]+|unix|-", r"\d+|-"
_PATTERNS = {
    **dict.fromkeys(("ci", "fi", "si", "bi"), _ADDRESS), **dict.fromkeys(("cp", "fp", "sp", "bp"), _PORT),
    "t": r"[^\]]*", "tr": r"[^\]]*", "T": r"[^\]]*", "ft": r"\S+",
    "b": r"[^/ ]+", "s": r"\S+", "B": r"\+?\d+", "U": r"\+?\d+", "ts": r"\S\S", "tsc": r"\S\S\S\S", "ST": r"-?\d+",
    "Tw": r"-?\d+", "Tc": r"-?\d+", "Tt": r"\+?-?\d+", "TR": r"-?\d+", "Tr": r"-?\d+", "Ta": r"\+?-?\d+",
    "rc": r"\+?\d+",
    # Captured headers stand in braces, and not at all when nothing is captured.
    "hr": r"(?:\{.*?\})?", "hs": r"(?:\{.*?\})?", "r": r".*",
}  # fmt: skip
_ENDS = {"C": "client", "c": "client", "S": "server", "s": "server"}
_TLS = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3", "SSLv3": "SSL 3.0"}


def parser(format: str, keep_query: bool) -> Parse:
    """A parser of lines in this format (`tcp`, `http`, `https` or a log-format string); empty: any of the three.

    Raises `ValueError` when the format says neither who the client was nor when.
    """
    if not format:
        return _any([parser(name, keep_query) for name in ("https", "http", "tcp")])
    pattern = Pattern(pieces(PRESETS.get(format, format)), _PATTERNS)
    _check(set(pattern.names))

    def parse(line: str) -> LoggedSession:
        return _session(pattern.values(message(line)), keep_query)

    return parse


def pieces(format: str) -> list[Piece]:
    """The literals and tokens of a log-format string."""
    found: list[Piece] = []
    at = 0
    captured = False  # the token before was captured headers: with none, there is no blank either
    for match in _TOKEN.finditer(format):
        literal = format[at : match.start()]
        if captured and literal.startswith(" "):
            found.append(Blanks())
            literal = literal[1:]
        quoted = '"' if "+Q" in match[0] else ""
        found.append(literal + ("%" if match[0] == "%%" else quoted))
        captured = False
        if match[0] != "%%":
            name = match[1] or match[2]
            captured = name in ("hr", "hs")
            found += [Token(name), quoted]
        at = match.end()
    found.append(format[at:])
    return [piece for piece in found if piece]


def message(line: str) -> str:
    """The line without what syslog put before it."""
    found = _PREFIX.match(line) or _SYSLOG.match(line)
    return line[found.end() :] if found else line


def _check(names: set[str]) -> None:
    if not names & {"t", "tr", "T", "Ts", "trl", "trg"}:
        raise ValueError("the log-format has no time (%t, %tr, %T or %Ts)")
    if "ci" not in names:
        raise ValueError("the log-format does not have the client's address (%ci)")


def _any(parsers: list[Parse]) -> Parse:
    def parse(line: str) -> LoggedSession:
        for number, one in enumerate(parsers):
            try:
                session = one(line)
            except Unfit:
                continue
            if number:  # what came is likely to come again
                parsers.insert(0, parsers.pop(number))
            return session
        raise Unfit("the line is of none of tcplog, httplog and httpslog")

    return parse


def _time(values: dict[str, str]) -> int:
    for name, read in _TIMES.items():
        if name in values:
            try:
                return int(read(values[name]).timestamp() * 1e6 + 0.5) + (integer(values.get("ms")) or 0) * 1000
            except (ValueError, OverflowError, OSError):
                raise Unfit(f"{values[name]!r} is not a time") from None
    raise Unfit("the line has no time")


def _local(text: str) -> datetime:
    return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S.%f").astimezone()


def _zoned(text: str) -> datetime:
    return datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z")


_TIMES: dict[str, Callable[[str], datetime]] = {
    "t": _local,
    "tr": _local,
    "T": _zoned,
    "trl": _zoned,
    "trg": _zoned,
    "Ts": lambda text: datetime.fromtimestamp(int(text), UTC),
}


def _session(values: dict[str, str], keep_query: bool) -> LoggedSession:
    get = values.get
    start = _time(values)
    total = milliseconds(get("Tt")) or milliseconds(get("Ta")) or 0
    session = LoggedSession(start, start + total)
    session.client_address, session.client_port = address(values["ci"]), integer(get("cp"))
    for prefix in ("fi", "si"):  # transparent: where the client wanted to go; else where the server was
        if known(get(prefix)):
            session.server_address = address(values[prefix])
            session.server_port = integer(get(prefix[0] + "p"))
            break
    session.client_bytes, session.server_bytes = integer(get("U")), integer(get("B"))
    session.connect_latency_us = milliseconds(get("Tc"))
    waited = [milliseconds(get(name)) for name in ("TR", "Tw", "Tc", "Tr")]
    if waited[3] is not None:
        session.time_to_first_byte_us = sum(one or 0 for one in waited)
    session.http_status = integer(get("ST"))
    _request(session, get("r") or _line(values), keep_query)
    name = known(get("ssl_fc_sni")) or known(get("req.ssl_sni"))
    if name:
        session.server_name, session.server_name_source = name.lower(), "tls"
    elif session.http_host:
        session.server_name, session.server_name_source = host_name(session.http_host), "http"
    session.tls_version = _TLS.get(get("sslv") or "")
    session.alpn = known(get("ssl_fc_alpn"))
    _ending(session, get("ts") or get("tsc") or "--")
    return session


def _line(values: dict[str, str]) -> str:
    if "HM" not in values:
        return ""
    return f"{values['HM']} {values.get('HU') or values.get('HP') or '/'} {values.get('HV', '')}"


def _request(session: LoggedSession, request: str, keep_query: bool) -> None:
    words = request.split(" ")
    if len(words) >= 2 and words[0].isupper():
        session.http_method = words[0]
        session.http_host, session.http_path = split_target(words[1], keep_query)


def _ending(session: LoggedSession, state: str) -> None:
    """The termination state (chapter 8.5): who ended the session first, and in which phase."""
    cause, phase = state[0], state[1]
    if cause == "-":
        session.tcp_close = "fin"
        return
    session.closed_by = _ENDS.get(cause, "proxy")
    if phase == "C" and cause != "C":
        session.tcp_close = "connect_failed"
    elif cause in "cs":
        session.tcp_close = "timeout"
    else:
        session.tcp_close = "rst_received" if cause in "CS" else "rst_sent"
