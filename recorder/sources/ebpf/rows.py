"""Kernel records -> a record batch of the `flows` table, column by column, never row by row in Python."""

from __future__ import annotations

import socket
from collections.abc import Callable

import numpy as np
import pyarrow as pa

# Not pyarrow.compute, nor the methods of Array that import it: describing its functions takes time and memory.
from pyarrow._compute import call_function

from netrec.protocols import WITH_PORTS, transport_name
from netrec.trace import tables
from netrec.trace.columns import booleans, constant, numbers, text, times
from recorder.process_details import NOTHING, ProcessDetails
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.owners import CgroupResolver

_TCP = 6
_ECONNRESET, _EPIPE = 104, 32
_OPEN_STATES = (1, 8)  # ESTABLISHED, CLOSE_WAIT
_NO_RTT = 0xFFFFFFFF
_TCP_CLOSE = ["fin", "rst_sent", "rst_received", "timeout", "connect_failed"]
_FIN, _RST_SENT, _RST_RECEIVED, _TIMEOUT, _CONNECT_FAILED = range(5)
_NETWORK_TYPES = ["ipv4", "ipv6"]
_MAPPED = bytes(10) + b"\xff\xff"


class RowMaker:
    """Turns records into rows; `offset_ns` gives CLOCK_REALTIME minus CLOCK_BOOTTIME at the time of the call.

    With `details` the owners' executables and command lines (hashed) are looked up.
    """

    def __init__(
        self,
        host: str,
        cgroups: CgroupResolver,
        offset_ns: Callable[[], int],
        details: ProcessDetails | None = None,
    ) -> None:
        self.host, self._cgroups, self.offset_ns, self._details = host, cgroups, offset_ns, details
        self._addresses: dict[bytes, str] = {}

    def rows(self, records: np.ndarray, new: dict[str, np.ndarray], reason: str) -> pa.RecordBatch:
        """One row a record, with `flow_end_reason` = reason; shape (len(records),).

        `new` is what `LiveFlows.deltas` found for these records.
        """
        count = len(records)
        client = records["role"] == r.ROLE_CLIENT
        server = ~client
        duplicate = (records["flags"] & r.FLAG_DUPLICATE != 0) | new["duplicate"]
        offset = self.offset_ns()
        rtt_min = records["rtt_min"]
        latency = (records["established"].astype(np.int64) - records["start"].astype(np.int64)) // 1000
        has_latency = client & new["first"] & (records["established"] > 0) & (records["start"] > 0)
        closed = reason == "end"
        other = records["protocol"] != _TCP
        flows = new.get("flows", np.ones(count, np.int64))
        alone = flows == 1
        columns: dict[str, pa.Array | None] = {
            "start_time": utc(new["since"], offset),
            "end_time": utc(records["time"], offset),
            "flow_start_time": utc(records["start"], offset, records["start"] == 0),
            "flow_id": numbers(new["flow_id"]),
            "flow_end_reason": constant(reason, count),
            "tcp_close": text(closes(records), _TCP_CLOSE) if closed else None,
            **self.identity_columns(records, client, ~alone),
            "role": text(np.where(client, 0, 1), ["client", "server"]),
            "role_inferred": booleans(records["flags"] & r.FLAG_ROLE_INFERRED != 0),
            "client_bytes": numbers(np.where(client, new["sent"], new["received"])),
            "server_bytes": numbers(np.where(client, new["received"], new["sent"])),
            "client_packets": numbers(np.where(client, new["segments_out"], new["segments_in"])),
            "server_packets": numbers(np.where(client, new["segments_in"], new["segments_out"])),
            "client_retransmits": numbers(new["retransmits"], server | other),
            "server_retransmits": numbers(new["retransmits"], client | other),
            "connect_latency_us": numbers(latency, ~has_latency),
            "rtt_us": numbers(records["srtt"] >> 3, records["srtt"] == 0),
            "rtt_min_us": numbers(rtt_min, (rtt_min == _NO_RTT) | (rtt_min == 0)),
            **self.owner_columns(records),
            "sampling_interval": numbers(records["sampling"], records["sampling"] <= 1),
            "flow_count": None if alone.all() else numbers(flows, alone),
            "flow_duration_us": None if alone.all() else numbers(new["duration"] // 1000, alone),
            "source": constant("ebpf", count),
            "host": constant(self.host, count),
            "duplicate": booleans(duplicate),
        }
        known = {name: column for name, column in columns.items() if column is not None}
        return tables.batch(tables.FLOWS, known, count)

    def identity_columns(
        self, records: np.ndarray, client: np.ndarray, several: np.ndarray | None = None
    ) -> dict[str, pa.Array]:
        """Protocol, addresses and ports; `client` is true where the local end is the client's, `several` where a row
        stands for flows of several clients' ports; shape (n,)."""
        local, remote, addresses = self._address_columns(records)
        protocol = records["protocol"]
        if (protocol == _TCP).all():
            transport, portless = constant("tcp", len(records)), None
        else:
            distinct, codes = np.unique(protocol, return_inverse=True)
            transport = text(codes, [transport_name(int(one)) for one in distinct])
            portless = ~np.isin(protocol, WITH_PORTS)
        return {
            "transport": transport,
            "network_type": text(np.where(_is_ipv4(records["local"]), 0, 1), _NETWORK_TYPES),
            "client_address": text(np.where(client, local, remote), addresses),
            "client_port": _ports(
                np.where(client, records["local_port"], records["remote_port"]), _either(portless, several)
            ),
            "server_address": text(np.where(client, remote, local), addresses),
            "server_port": _ports(np.where(client, records["remote_port"], records["local_port"]), portless),
        }

    def owner_columns(self, records: np.ndarray) -> dict[str, pa.Array | None]:
        """The owning process, and the names of its cgroup."""
        nobody = records["pid"] == 0
        return {
            "process_pid": numbers(records["pid"], nobody, pa.int32()),
            "process_name": _command_names(records),
            "process_uid": numbers(records["uid"], nobody),
            "cgroup_id": numbers(records["cgroup"], records["cgroup"] == 0),
            "netns": numbers(records["netns"], records["netns"] == 0),
            "process_source": text(records["owner_source"], r.OWNER_SOURCES),
            **self._cgroup_columns(records),
            **self._detail_columns(records),
        }

    def _address_columns(self, records: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Codes of the local and of the remote addresses, and the texts that the codes stand for."""
        count = len(records)
        both = np.concatenate([records["local"], records["remote"]])
        indices, distinct = _encoded(both)
        texts = [self._address_text(raw) for raw in distinct]
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

    def _cgroup_columns(self, records: np.ndarray) -> dict[str, pa.Array | None]:
        """Container and unit of each record's owner, resolved once per distinct (cgroup, process)."""
        keys = records["cgroup"].astype(np.uint64) << np.uint64(32) | records["pid"]
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        found = [self._cgroups.names(int(records["cgroup"][at]), int(records["pid"][at])) for at in first]

        return {
            "container_id": _chosen([names.container_id for names in found], inverse),
            "process_unit": _chosen([names.unit for names in found], inverse),
        }

    def _detail_columns(self, records: np.ndarray) -> dict[str, pa.Array | None]:
        """Executable and command line's hash of each record's owner, asked for once per process."""
        if self._details is None or not len(records):
            return {}
        keys = np.rec.fromarrays([records["pid"], records["comm"]])
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        owners = [(int(records["pid"][at]), bytes(records["comm"][at]), int(_owned(records[at]))) for at in first]
        found = [self._details.of(*owner) if owner[0] else NOTHING for owner in owners]
        return {
            "process_executable": _chosen([details.executable for details in found], inverse),
            "process_command_hash": _chosen([details.command_hash for details in found], inverse),
        }


def _owned(record: np.void) -> int:
    """When the owner had the flow, for certain (ns): who connected had it from the start."""
    connected = record["owner_source"] == r.OWNER_SOURCES.index("connect") and record["start"] > 0
    return int(record["start"] if connected else record["time"])


def _either(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return other if one is None else one if other is None else one | other


def closes(records: np.ndarray) -> np.ndarray:
    """How each TCP flow was closed: a code of _TCP_CLOSE."""
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
    indices, distinct = _encoded(records["comm"])
    # Whatever bytes a process chose for its name must become valid text.
    texts = [name.split(b"\0", 1)[0].decode("utf-8", "backslashreplace") for name in distinct]
    return text(indices, texts, records["pid"] == 0)


def _encoded(values: np.ndarray) -> tuple[np.ndarray, list[bytes]]:
    """A code per row (int32) and the distinct 16-byte values that the codes stand for."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    encoded = call_function(
        "dictionary_encode", [pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(values), buffers)]
    )
    return np.frombuffer(encoded.indices.buffers()[1], np.int32, len(values)), encoded.dictionary.to_pylist()


def _is_ipv4(addresses: np.ndarray) -> np.ndarray:
    words = np.ascontiguousarray(addresses).view(np.uint32).reshape(-1, 4)
    return (words[:, 0] == 0) & (words[:, 1] == 0) & (words[:, 2] == np.frombuffer(b"\0\0\xff\xff", np.uint32)[0])


def utc(nanoseconds: np.ndarray, offset: int, null: np.ndarray | None = None) -> pa.Array:
    """Kernel times (ns, CLOCK_BOOTTIME) as UTC; shape (n,)."""
    return times((nanoseconds.astype(np.int64) + offset) // 1000, null)


def _ports(values: np.ndarray, null: np.ndarray | None) -> pa.Array:
    return numbers(values, null, pa.int32())


def _chosen(texts: list[str | None], inverse: np.ndarray) -> pa.Array | None:
    """A text column from one text per group and each row's group; None when no group has one."""
    if not any(texts):
        return None
    known = sorted({name for name in texts if name})
    place = {name: index for index, name in enumerate(known)}
    code = np.array([place[name] if name else -1 for name in texts], np.int32)[inverse]
    return text(code, known, code < 0)
