"""What a worker tells the recorder, and in which bytes: frames over a pipe, each of one kind.

    frame   = kind uint32, count uint32, size uint64, payload of that size
    SESSIONS  count records of `RECORD`
    TEXTS     count texts that are new since the last RESET: uint32 lengths, then the texts, UTF-8
    RESET     no payload: the texts are numbered from 0 again
    COUNTERS  one JSON object: what the worker counted since the last one

Texts (addresses, names) are sent once and then named by their number, so that a record has a fixed size and
NumPy can read a whole frame at once. Times are CLOCK_MONOTONIC nanoseconds: the recorder knows the wall clock.
This module is imported by the workers: it needs nothing but the standard library.
"""

from __future__ import annotations

import struct

SESSIONS, TEXTS, RESET, COUNTERS = 1, 2, 3, 4
FRAME = struct.Struct("<IIQ")

# Name, struct code, NumPy type. -1 stands for "not known" in the signed fields, text number 0 for no text.
FIELDS: tuple[tuple[str, str, str], ...] = (
    ("flow_id", "q", "<i8"),
    ("flow_start", "q", "<i8"),
    ("start", "q", "<i8"),
    ("end", "q", "<i8"),
    ("client_bytes", "q", "<i8"),
    ("server_bytes", "q", "<i8"),
    ("connect_latency", "q", "<i8"),
    ("first_byte", "q", "<i8"),
    ("client_address", "I", "<u4"),
    ("server_address", "I", "<u4"),
    ("server_name", "I", "<u4"),
    ("tls_version", "I", "<u4"),
    ("alpn", "I", "<u4"),
    ("http_method", "I", "<u4"),
    ("http_host", "I", "<u4"),
    ("http_path", "I", "<u4"),
    ("client_port", "H", "<u2"),
    ("server_port", "H", "<u2"),
    ("http_status", "h", "<i2"),
    ("flow_end_reason", "B", "u1"),
    ("tcp_close", "B", "u1"),
    ("closed_by", "B", "u1"),
    ("name_source", "B", "u1"),
    ("ipv6", "B", "u1"),
    ("reserved", "B", "u1"),
)
RECORD = struct.Struct("<" + "".join(code for _, code, _ in FIELDS))

# The value of a small code is its place here; place 0 is null.
END_REASONS = ("", "active", "end", "forced")
ACTIVE, END, FORCED = 1, 2, 3
CLOSES = ("", "fin", "rst_sent", "rst_received", "timeout", "connect_failed")
FIN, RESET_SENT, RESET_RECEIVED, TIMED_OUT, CONNECT_FAILED = 1, 2, 3, 4, 5
SIDES = ("", "client", "server", "proxy")
CLIENT, SERVER, PROXY = 1, 2, 3
NAME_SOURCES = ("", "tls", "http")
FROM_TLS, FROM_HTTP = 1, 2
