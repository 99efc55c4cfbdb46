"""Kernel records -> a record batch of the `flows` table, column by column, never row by row in Python."""

from __future__ import annotations

import socket
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from netrec.trace import tables
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.live import LiveFlows
from recorder.sources.ebpf.owners import CgroupResolver

_ECONNRESET, _EPIPE = 104, 32
_OPEN_STATES = (1, 8)  # ESTABLISHED, CLOSE_WAIT
_NO_RTT = 0xFFFFFFFF
_TCP_CLOSE = ["fin", "rst_sent", "rst_received", "timeout", "connect_failed"]
_FIN, _RST_SENT, _RST_RECEIVED, _TIMEOUT, _CONNECT_FAILED = range(5)
_NETWORK_TYPES = ["ipv4", "ipv6"]
_MAPPED = bytes(10) + b"\xff\xff"


class RowMaker:
    """Turns records into rows; `offset_ns` gives CLOCK_REALTIME minus CLOCK_BOOTTIME at the time of the call."""

    def __init__(self, host: str, cgroups: CgroupResolver, offset_ns: Callable[[], int]) -> None:
        self._host, self._cgroups, self._offset_ns = host, cgroups, offset_ns
        self._addresses: dict[bytes, str] = {}

    def rows(self, records: np.ndarray, live: LiveFlows, reason: str) -> pa.RecordBatch:
        """One row a record, with `flow_end_reason` = reason; shape (len(records),). Updates nothing but numbering."""
        count = len(records)
        new = live.deltas(records)
        client = records["role"] == r.ROLE_CLIENT
        server = ~client
        duplicate = (records["flags"] & r.FLAG_DUPLICATE != 0) | new["duplicate"]
        offset = self._offset_ns()
        local, remote, addresses = self._address_columns(records)
        rtt_min = records["rtt_min"]
        latency = (records["established"].astype(np.int64) - records["start"].astype(np.int64)) // 1000
        has_latency = client & new["first"] & (records["established"] > 0) & (records["start"] > 0)
        closed = reason == "end"
        names = self._cgroup_columns(records)
        columns = {
            "start_time": _times(new["since"], offset),
            "end_time": _times(records["time"], offset),
            "flow_start_time": _times(records["start"], offset, records["start"] == 0),
            "flow_id": pa.array(new["flow_id"]),
            "flow_end_reason": constant(reason, count),
            "tcp_close": codes(_closes(records), _TCP_CLOSE) if closed else None,
            "transport": constant("tcp", count),
            "network_type": codes(np.where(_is_ipv4(records["local"]), 0, 1), _NETWORK_TYPES),
            "client_address": codes(np.where(client, local, remote), addresses),
            "client_port": _ports(np.where(client, records["local_port"], records["remote_port"])),
            "server_address": codes(np.where(client, remote, local), addresses),
            "server_port": _ports(np.where(client, records["remote_port"], records["local_port"])),
            "role": codes(np.where(client, 0, 1), ["client", "server"]),
            "role_inferred": pa.array(records["flags"] & r.FLAG_ROLE_INFERRED != 0),
            "client_bytes": pa.array(np.where(client, new["sent"], new["received"])),
            "server_bytes": pa.array(np.where(client, new["received"], new["sent"])),
            "client_packets": pa.array(np.where(client, new["segments_out"], new["segments_in"])),
            "server_packets": pa.array(np.where(client, new["segments_in"], new["segments_out"])),
            "client_retransmits": _integers(new["retransmits"], server),
            "server_retransmits": _integers(new["retransmits"], client),
            "connect_latency_us": _integers(latency, ~has_latency),
            "rtt_us": _integers(records["srtt"] >> 3, records["srtt"] == 0),
            "rtt_min_us": _integers(rtt_min, (rtt_min == _NO_RTT) | (rtt_min == 0)),
            "process_pid": pa.array(records["pid"].astype(np.int32), mask=records["pid"] == 0),
            "process_name": _command_names(records),
            "process_uid": _integers(records["uid"], records["pid"] == 0),
            "cgroup_id": _integers(records["cgroup"], records["cgroup"] == 0),
            "netns": _integers(records["netns"]),
            "process_source": codes(records["owner_source"], r.OWNER_SOURCES),
            "source": constant("ebpf", count),
            "host": constant(self._host, count),
            "duplicate": pa.array(duplicate),
            **names,
        }
        self.last_flow_id = new["flow_id"]
        known = {name: column for name, column in columns.items() if column is not None}
        return tables.batch(tables.FLOWS, known, count)

    def _address_columns(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Codes of the local and of the remote addresses, and the texts that the codes stand for."""
        count = len(records)
        both = np.concatenate([records["local"], records["remote"]])
        encoded = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), 2 * count, [None, pa.py_buffer(np.ascontiguousarray(both))]
        ).dictionary_encode()
        indices = encoded.indices.to_numpy()
        texts = [self._address_text(raw) for raw in encoded.dictionary.to_pylist()]
        return indices[:count], indices[count:], texts

    def _address_text(self, raw: bytes) -> str:
        text = self._addresses.get(raw)
        if text is None:
            if len(self._addresses) >= 1 << 16:
                self._addresses.clear()
            if raw.startswith(_MAPPED):
                text = socket.inet_ntop(socket.AF_INET, raw[12:])
            else:
                text = socket.inet_ntop(socket.AF_INET6, raw)
            self._addresses[raw] = text
        return text

    def _cgroup_columns(self, records: np.ndarray) -> dict[str, pa.Array]:
        """Container and unit of each record's owner, resolved once per distinct (cgroup, process)."""
        keys = records["cgroup"].astype(np.uint64) << np.uint64(32) | records["pid"]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        found = [self._cgroups.names(int(records["cgroup"][at]), int(records["pid"][at])) for at in first]

        return {
            "container_id": _chosen([names.container_id for names in found], inverse),
            "process_unit": _chosen([names.unit for names in found], inverse),
        }


def _closes(records: np.ndarray) -> np.ndarray:
    flags, error = records["flags"], records["error"]
    how = np.full(len(records), _FIN, np.int32)
    # close() with unread data, or with SO_LINGER 0: the kernel closes first and resets then.
    how[(error == 0) & np.isin(records["state"], _OPEN_STATES)] = _RST_SENT
    how[error != 0] = _TIMEOUT
    how[(error == _ECONNRESET) | (error == _EPIPE)] = _RST_RECEIVED
    how[flags & r.FLAG_RESET_SENT != 0] = _RST_SENT
    how[flags & r.FLAG_RESET_RECEIVED != 0] = _RST_RECEIVED
    how[flags & r.FLAG_ESTABLISHED == 0] = _CONNECT_FAILED
    return how


def _command_names(records: np.ndarray) -> pa.Array:
    raw = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(records), [None, pa.py_buffer(np.ascontiguousarray(records["comm"]))]
    ).dictionary_encode()
    # Whatever bytes a process chose for its name must become valid text.
    texts = [name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for name in raw.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(
        pa.array(raw.indices.to_numpy(), mask=records["pid"] == 0), pa.array(texts, pa.string())
    )


def _is_ipv4(addresses: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(addresses).view(np.uint32).reshape(-1, 4)
    return (words[:, 0] == 0) & (words[:, 1] == 0) & (words[:, 2] == np.frombuffer(b"\0\0\xff\xff", np.uint32)[0])


def _times(nanoseconds: np.ndarray, offset: int, mask: np.ndarray | None = None) -> pa.Array:
    microseconds = (nanoseconds.astype(np.int64) + offset) // 1000
    return pa.array(microseconds, mask=mask).cast(pa.timestamp("us", tz="UTC"))


def _integers(values: np.ndarray, null: np.ndarray | None = None) -> pa.Array:
    return pa.array(values.astype(np.int64), mask=null)


def _ports(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int32))


def _chosen(texts: list[str | None], inverse: np.ndarray) -> pa.Array | None:
    """A text column from one text per group and each row's group; None when no group has one."""
    if not any(texts):
        return None
    known = sorted({text for text in texts if text})
    place = {text: index for index, text in enumerate(known)}
    code = np.array([place[text] if text else -1 for text in texts], np.int32)[inverse]
    return pa.DictionaryArray.from_arrays(pa.array(code, mask=code < 0), pa.array(known, pa.string()))


def constant(text: str, rows: int) -> pa.Array:
    """A text column with one value."""
    return codes(np.zeros(rows, np.int32), [text])


def codes(indices: np.ndarray, texts: list[str]) -> pa.Array:
    """A text column from codes into `texts`."""
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(texts, pa.string()))
