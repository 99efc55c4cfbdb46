"""What one line of a proxy's log says, and many of them as rows of the flows table."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, fields

import pyarrow as pa

from netrec.trace import tables


class Unfit(ValueError):
    """A line that says no session; the text is the reason that goes with it into `rejected/`."""


@dataclass
class LoggedSession:
    """Fields of the flows table, as far as the log has them. Times in microseconds since the epoch."""

    start_time: int
    end_time: int
    client_address: str | None = None
    client_port: int | None = None
    server_address: str | None = None
    server_port: int | None = None
    client_bytes: int | None = None
    server_bytes: int | None = None
    connect_latency_us: int | None = None
    time_to_first_byte_us: int | None = None
    server_name: str | None = None
    server_name_source: str | None = None
    tls_version: str | None = None
    alpn: str | None = None
    http_method: str | None = None
    http_host: str | None = None
    http_path: str | None = None
    http_status: int | None = None
    tcp_close: str | None = None
    closed_by: str | None = None
    flow_id: int = 0


_NAMES = [one.name for one in fields(LoggedSession)]


def address(text: str) -> str | None:
    """The canonical form of an address (IPv4-mapped ones as IPv4); None for what is none (`-`, a socket's path)."""
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return str(found)


def endpoint(text: str) -> tuple[str | None, int | None]:
    """Address and port of `10.0.0.1:80`, `[::1]:80`, `::1:80`, or of an address alone."""
    host, _, port = text.rpartition(":")
    if port.isdecimal() and address(host):
        return address(host), int(port)
    return address(text), None


def host_name(host: str) -> str | None:
    """The name in a Host header or authority, without its port."""
    name, _, port = host.rpartition(":")
    return (name if port.isdecimal() and name else host).strip("[]").rstrip(".").lower() or None


def split_target(target: str, keep_query: bool) -> tuple[str | None, str | None]:
    """Host (None: not in it) and path of a request's target."""
    host = None
    if "://" in target:
        host, slash, path = target.partition("://")[2].partition("/")
        target = slash + path or "/"
    return host, target if keep_query else target.partition("?")[0]


def batch(sessions: Sequence[LoggedSession], source: str, host: str) -> pa.RecordBatch:
    """Rows of the flows table."""
    rows = len(sessions)
    columns: dict[str, pa.Array] = {
        name: pa.array([getattr(one, name) for one in sessions], _plain(name)) for name in _NAMES
    }
    columns["flow_start_time"] = columns["start_time"]
    versions = ["ipv6" if one.client_address and ":" in one.client_address else "ipv4" for one in sessions]
    columns |= {
        "network_type": pa.array(versions),
        "flow_end_reason": pa.array(["end"] * rows),
        "transport": pa.array(["tcp"] * rows),
        "role": pa.array(["none"] * rows),
        "role_inferred": pa.array([False] * rows),
        "source": pa.array([source] * rows),
        "host": pa.array([host] * rows),
        "duplicate": pa.array([False] * rows),
    }
    return tables.batch(tables.FLOWS, columns, rows)


def _plain(name: str) -> pa.DataType:
    kind = tables.FLOWS.schema.field(name).type
    return pa.string() if pa.types.is_dictionary(kind) else kind
