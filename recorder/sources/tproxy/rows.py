"""What the workers wrote -> record batches of the flows table, a whole read at once through NumPy."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from netrec.trace import tables
from recorder.sources.tproxy import wire

RECORD = np.dtype([(name, kind) for name, _, kind in wire.FIELDS])
assert RECORD.itemsize == wire.RECORD.size
# Frames are of records and texts that are bounded: a longer one means that the stream is out of step.
FRAME_LIMIT = 64 << 20


class WorkerStream:
    """One worker's stream, taken apart: `feed` it bytes as they come, `take` the rows that are complete."""

    def __init__(
        self,
        host: str,
        role: Callable[[str], str],
        seen_elsewhere: bool = False,
    ) -> None:
        """`role` as in `batch`; `seen_elsewhere`: another source counts this host's own connections."""
        self._seen_elsewhere = seen_elsewhere
        self._host = host
        self._role = role
        self.finished = 0  # sessions of which the last row has come
        self._rest = bytearray()
        self._texts: list[str] = [""]
        self._records: list[bytes] = []  # frames of which the texts are those of now
        self._batches: list[pa.RecordBatch] = []

    def feed(self, data: bytes) -> list[dict[str, int]]:
        """Take the next bytes; the worker's counters that were in them. Raises `ValueError` when they are no frames."""
        counters: list[dict[str, int]] = []
        rest = self._rest
        rest += data
        at = 0
        while len(rest) - at >= wire.FRAME.size:
            kind, count, size = wire.FRAME.unpack_from(rest, at)
            if size > FRAME_LIMIT:
                raise ValueError("a worker's stream is out of step")
            if len(rest) - at < wire.FRAME.size + size:
                break
            at += wire.FRAME.size
            payload = bytes(memoryview(rest)[at : at + size])
            if kind == wire.COUNTERS:
                counters.append(json.loads(payload))
            else:
                self._frame(kind, count, payload)
            at += size
        del rest[:at]
        return counters

    def take(self) -> list[pa.RecordBatch]:
        """The rows since the last call."""
        self._settle()
        batches, self._batches = self._batches, []
        return batches

    def _settle(self) -> None:
        """Frames become a batch all at once: what a batch costs hardly depends on how much is in it."""
        if self._records:
            records = np.frombuffer(b"".join(self._records), RECORD)
            self._batches.append(batch(records, self._texts, self._host, self._role, self._seen_elsewhere))
            self._records.clear()

    def _frame(self, kind: int, count: int, payload: bytes) -> None:
        if kind == wire.SESSIONS:
            records = np.frombuffer(payload, RECORD, count)
            self.finished += int(np.count_nonzero(records["flow_end_reason"] != wire.ACTIVE))
            self._records.append(payload)
        elif kind == wire.TEXTS:
            at = 4 * count
            for length in struct.unpack_from(f"<{count}I", payload):
                self._texts.append(payload[at : at + length].decode("utf-8", "replace"))
                at += length
        elif kind == wire.RESET:
            self._settle()
            self._texts = [""]


def batch(
    records: np.ndarray[Any, Any],
    texts: Sequence[str],
    host: str,
    role: Callable[[str], str],
    seen_elsewhere: bool = False,
) -> pa.RecordBatch:
    """Flows rows of packed records. Wall-clock times come from the offset of the clocks now.

    `texts` by number; `role` tells the observer's side from the client's address.
    """
    rows = len(records)
    offset = time.time_ns() - time.monotonic_ns()

    def moment(name: str) -> pa.Array:
        return pa.array((records[name] + offset) // 1000, pa.int64()).cast(pa.timestamp("us", tz="UTC"))

    def known(name: str, least: int = 0) -> pa.Array:
        values = records[name].astype(np.int64)
        return pa.array(values, mask=values < least)

    def text(name: str, change: Callable[[str], str] = str) -> pa.Array:
        numbers, places = np.unique(records[name], return_inverse=True)
        return _dictionary([change(texts[number]) for number in numbers], places)

    def code(name: str, values: Sequence[str]) -> pa.Array:
        return _dictionary(list(values), records[name])

    def constant(value: str) -> pa.Array:
        return _dictionary([value], np.zeros(rows, np.int32))

    roles = text("client_address", role)
    columns = {
        "start_time": moment("start"),
        "end_time": moment("end"),
        "flow_start_time": moment("flow_start"),
        "flow_id": pa.array(records["flow_id"]),
        "flow_end_reason": code("flow_end_reason", wire.END_REASONS),
        "tcp_close": code("tcp_close", wire.CLOSES),
        "transport": constant("tcp"),
        "network_type": code("ipv6", ("ipv4", "ipv6")),
        "client_address": text("client_address"),
        "client_port": pa.array(records["client_port"].astype(np.int32)),
        "server_address": text("server_address"),
        "server_port": pa.array(records["server_port"].astype(np.int32)),
        "role": roles,
        "role_inferred": pa.array(np.zeros(rows, bool)),
        "client_bytes": pa.array(records["client_bytes"]),
        "server_bytes": pa.array(records["server_bytes"]),
        "connect_latency_us": known("connect_latency"),
        "netns": pa.array(np.full(rows, Path("/proc/self/ns/net").stat().st_ino)),
        "server_name": text("server_name"),
        "server_name_source": code("name_source", wire.NAME_SOURCES),
        "tls_version": text("tls_version"),
        "alpn": text("alpn"),
        "http_method": text("http_method"),
        "http_host": text("http_host"),
        "http_path": text("http_path"),
        "http_status": known("http_status"),
        "time_to_first_byte_us": known("first_byte"),
        "closed_by": code("closed_by", wire.SIDES),
        "source": constant("tproxy"),
        "host": constant(host),
        "duplicate": pc.and_(pc.equal(roles.dictionary_decode(), "client"), seen_elsewhere),
    }
    return tables.batch(tables.FLOWS, columns, rows)


def _dictionary(values: list[str], places: np.ndarray[Any, Any]) -> pa.Array:
    """A dictionary column; the empty text is null."""
    distinct = {value: number for number, value in enumerate(dict.fromkeys(values))}
    numbers = np.array([distinct[value] for value in values], np.int32)[places.reshape(-1)]
    nothing = numbers == distinct.get("", -1)
    return pa.DictionaryArray.from_arrays(pa.array(numbers, mask=nothing), pa.array(list(distinct), pa.string()))
