"""One proxied session and its two ends: what is known of it, and the record that it leaves."""

from __future__ import annotations

from _socket import socket as RawSocket
from time import monotonic_ns

from recorder.sources.tproxy import http, tls, wire
from recorder.sources.tproxy.journal import Journal

_pack = wire.RECORD.pack


class End:
    """One of the two sockets of a session.

    `held` and `piped` are bytes that came from this end and that the other has not yet taken.
    """

    __slots__ = (
        "ended",
        "fin_sent",
        "hangup",
        "held",
        "other",
        "pipe",
        "piped",
        "readable",
        "received",
        "reported",
        "runs",
        "session",
        "side",
        "sniffed",
        "sock",
        "steady",
        "urgent",
        "writable",
    )
    other: End
    session: Session

    def __init__(self, sock: RawSocket, side: int) -> None:
        self.sock = sock
        self.side = side
        self.readable = False
        self.writable = False
        self.ended = False  # its FIN has been read
        self.fin_sent = False
        self.hangup = False  # its FIN has come: all that will ever come can be read
        self.urgent = False
        self.steady = False  # nothing special about it: no pipe, nothing left to learn
        self.held: bytes | memoryview = b""
        self.pipe: tuple[int, int] | None = None
        self.piped = 0
        self.runs = 0  # full buffers read in a row
        self.received = 0  # payload bytes from this end
        self.reported = 0  # of these, in rows already written
        self.sniffed: bytes | None = b""  # first bytes, while they may still tell something


class Session:
    """What a row says. Times are CLOCK_MONOTONIC nanoseconds; 0 where not known yet."""

    __slots__ = (
        "client",
        "close",
        "closed_by",
        "connected",
        "first_byte",
        "flow_id",
        "host",
        "ipv6",
        "method",
        "name",
        "name_source",
        "path",
        "peer",
        "protocol",
        "reported",
        "resetting",
        "server",
        "start",
        "status",
        "target",
        "version",
    )

    def __init__(
        self, flow_id: int, client: End, server: End, peer: tuple[str, int], target: tuple[str, int], ipv6: bool
    ) -> None:
        self.flow_id = flow_id
        self.client = client
        self.server = server
        self.peer = peer  # the client's address and port
        self.target = target  # the server's
        self.ipv6 = ipv6
        self.start = self.reported = monotonic_ns()
        self.connected = 0
        self.first_byte = 0
        self.close = 0
        self.closed_by = 0
        self.resetting = 0  # when the reset that came from one end is passed on at the latest
        self.name = self.version = self.protocol = self.method = self.host = self.path = ""
        self.name_source = 0
        self.status = -1
        client.other, server.other = server, client
        client.session = server.session = self

    def release(self) -> None:
        """Close the sockets, and undo the circle of references, so that memory is free at once."""
        self.client.sock.close()
        self.server.sock.close()
        del self.client.other, self.server.other, self.client, self.server

    def look(self, end: End, data: bytes, keep_query: bool) -> None:
        """Learn what the first bytes of an end tell. Called for each read until `sniffed` is None."""
        seen = end.sniffed
        if seen:
            data = seen + data
        if end is self.client:
            if tls.looks_like_tls(data):
                hello = tls.parse(data)
                if hello is None:
                    end.sniffed = data
                    return
                self.name, self.version, self.protocol = hello
                self.name_source = wire.FROM_TLS if hello.server_name else 0
                self.server.sniffed = None
            else:
                request = http.parse_request(data, keep_query)
                if request is None:
                    end.sniffed = data
                    return
                self.method, self.host, self.path = request
                if not request.method:
                    self.server.sniffed = None
                elif request.host:
                    self.name = http.name_of(request.host)
                    self.name_source = wire.FROM_HTTP if self.name else 0
        elif self.method or self.client.sniffed:
            status = http.parse_status(data)
            if status is None:
                end.sniffed = data
                return
            self.status = status
        # Else the server spoke first: no HTTP/1, but the client's first bytes may still be TLS (STARTTLS is not).
        end.sniffed = None

    def write(self, journal: Journal, reason: int, now: int) -> None:
        """Add a row for what came since the last one."""
        client, server, number = self.client, self.server, journal.number
        start = self.start
        journal.records += _pack(
            self.flow_id,
            start,
            self.reported,
            now,
            client.received - client.reported,
            server.received - server.reported,
            (self.connected - start) // 1000 if self.connected else -1,
            (self.first_byte - start) // 1000 if self.first_byte else -1,
            number(self.peer[0]),
            number(self.target[0]),
            number(self.name),
            number(self.version),
            number(self.protocol),
            number(self.method),
            number(self.host),
            number(self.path),
            self.peer[1],
            self.target[1],
            self.status,
            reason,
            self.close,
            self.closed_by,
            self.name_source,
            self.ipv6,
            0,
        )
        client.reported, server.reported, self.reported = client.received, server.received, now
