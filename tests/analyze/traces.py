"""Small traces for tests of the analysis, written through the trace format alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import definition, layout, metadata, tables

START = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
CAPTURE = "20261122T200000Zaaaaaa"


def at(seconds: float) -> datetime:
    """A moment of the test traces: seconds after 20:00 UTC."""
    return START + timedelta(seconds=seconds)


def flow(number: int, start: float, end: float, **fields: Any) -> dict[str, Any]:
    """A row of `flows` that is complete in one interval, unless `fields` says otherwise."""
    return {
        "start_time": at(start),
        "end_time": at(end),
        "flow_start_time": at(start),
        "flow_id": number,
        "flow_end_reason": "end",
        "tcp_close": "fin",
        "transport": "tcp",
        "network_type": "ipv4",
        "client_address": "10.0.0.1",
        "client_port": 40000 + number,
        "server_address": "10.0.0.9",
        "server_port": 443,
        "role": "client",
        "client_bytes": 100,
        "server_bytes": 900,
        "client_packets": 2,
        "server_packets": 3,
        "client_retransmits": 0,
        "server_retransmits": None,
        "rtt_us": 500,
        "process_name": "curl",
        "process_source": "connect",
        "source": "ebpf",
        "host": "web-1",
        "duplicate": False,
    } | fields


def health(start: float, end: float, **fields: Any) -> dict[str, Any]:
    """A regular row of `health`."""
    row = {"start_time": at(start), "end_time": at(end), "kind": "interval", "events_seen": 10, "events_lost": 0}
    return row | {"source": "ebpf", "host": "web-1"} | fields


def batch(
    table: str, rows: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any] | None = None
) -> pa.RecordBatch:
    """Rows as a record batch of the table; fields that a row does not name are null."""
    names = {name for row in rows for name in row}
    described = definition.table_of(table, definitions or {})
    types = {field.name: field.type for field in described.fields}
    columns = {}
    for name in names:
        type = types[name].value_type if pa.types.is_dictionary(types[name]) else types[name]
        columns[name] = pa.array([row.get(name) for row in rows], type)
    return tables.batch(described, columns, len(rows))


def write(
    folder: Path,
    table: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    sequence: int = 1,
    capture: str = CAPTURE,
    host: str = "web-1",
    opened: datetime = START,
    seconds: float = 60,
    closed: str = "end",
    lost: int = 0,
    columns: Sequence[str] | None = None,
    **about: Any,
) -> Path:
    """Write one finished file and return its path; `columns` keeps only those (an older format)."""
    name = layout.TraceFile(table, opened.replace(minute=0, second=0, microsecond=0), host, capture, sequence)
    whole = metadata.CaptureMetadata(host, capture, "ebpf", **about)
    ended = (opened + timedelta(seconds=seconds)).isoformat()
    stated = metadata.FileMetadata(whole, table, sequence, len(rows), lost, opened.isoformat(), closed, ended)
    data = pa.Table.from_batches([batch(table, rows, whole.definitions)])
    if columns:
        data = data.select(columns)
    path = folder / name.relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(data.replace_schema_metadata(metadata.encode(stated)), path, write_page_checksum=True)
    return path


HOSTILE = "evil\x1b[31m'\"\n=cmd|x\u202e"


def everyday(folder: Path) -> Path:
    """A minute of one host: short flows, a long one in three rows, a local pair, IPv6, a failure, a hostile name."""
    long_lived = {"flow_start_time": at(0), "client_bytes": 0, "server_bytes": 10_000_000, "process_name": "backup"}
    rows = [
        flow(1, 1, 2),
        flow(2, 3, 4, process_name=HOSTILE, client_address="10.0.0.2", client_bytes=5000),
        flow(3, 5, 6, client_address="2001:db8::1", server_address="2001:db8::9", network_type="ipv6"),
        flow(4, 7, 7, tcp_close="connect_failed", client_bytes=0, server_bytes=0, process_name=None),
        flow(5, 8, 9, client_address="127.0.0.1", server_address="127.0.0.1", server_port=5432),
        flow(5000, 8, 9, client_address="127.0.0.1", server_address="127.0.0.1", server_port=5432, duplicate=True),
        flow(6, 0, 10, flow_end_reason="active", tcp_close=None, client_retransmits=7, **long_lived),
        flow(6, 10, 20, flow_end_reason="active", tcp_close=None, **long_lived),
        flow(6, 20, 30, **long_lived),
    ]
    write(folder, "flows", sorted(rows, key=lambda row: row["end_time"]))
    gap = health(40, 50, kind="gap", reason="disk full", events_seen=None, events_lost=None)
    write(folder, "health", [health(0, 30, events_seen=98, events_lost=2), gap])
    return folder
