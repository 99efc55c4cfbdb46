"""What this host's DNS clients ask: events with latency and failures, and names for the flows that follow."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from netrec.protocols import TRANSPORT_NUMBERS
from netrec.trace.columns import numbers, text
from recorder.bpf.compiler import Loaded
from recorder.bpf.ring import RecordRing
from recorder.clock import boot_ns
from recorder.dns.observer import Asker, DnsEvent, DnsObserver
from recorder.dns.packet import dissect
from recorder.sources.ebpf import records as r
from recorder.sources.ebpf.cgroup_hooks import attach
from recorder.sources.ebpf.event_rows import event_rows
from recorder.sources.ebpf.programs import DNS, DNS_RING_BYTES
from recorder.sources.ebpf.rows import RowMaker

# struct dns_packet of dns.bpf.c without its bytes: time (ns, CLOCK_BOOTTIME), cgroup, pid, uid, command, netns, length,
# owner's source, whether it was sent.
_HEADER = struct.Struct("<QQII16sIHBB")
_KINDS = ["dns_query", "dns_failure"]
_RECORD = np.dtype(
    [(name, r.FLOW[name]) for name in ("local", "remote", "local_port", "remote_port", "netns", "role", "protocol")]
    + [(name, r.FLOW[name]) for name in ("pid", "uid", "cgroup", "comm", "owner_source", "time", "id", "kind")]
    + [("count", "i8")]
)


class DnsSource:
    """Attaches to the root cgroup; `poll` when woken, `rows` once a second, `stop` at the end. Only clients
    are watched: what a server on this host is asked by others is not."""

    def __init__(self, loaded: Loaded) -> None:
        self.observer = DnsObserver()
        self._ring = RecordRing(loaded.maps["dns_packets"], DNS_RING_BYTES)
        self._links = attach(loaded, DNS.cgroup_hooks, "record without --dns")

    def poll(self) -> None:
        """Read what was captured."""
        for record in self._ring.drain():
            self._packet(record)

    def rows(self, maker: RowMaker) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Events since the last call."""
        self.poll()
        events = self.observer.take_events(boot_ns() // 1000)
        if events:
            yield "events", _rows(events, maker)

    def stop(self) -> None:
        """Detach; safe more than once."""
        for link in self._links:
            os.close(link)
        self._links = []

    def close(self) -> None:
        """After `stop`, and after the last `rows`."""
        self._ring.close()

    def _packet(self, record: bytes) -> None:
        time_ns, cgroup, pid, uid, command, netns, captured, source, sent = _HEADER.unpack_from(record)
        found = dissect(record[_HEADER.size : _HEADER.size + captured])
        # From port 53 to port 53 a packet may be a server's, too: what it says in itself tells.
        if found is None or found.from_server == bool(sent):
            return
        self.observer.observe(
            found.payload,
            time_ns // 1000,
            found.conversation._replace(netns=netns),
            from_server=found.from_server,
            sequence=found.sequence,
            opens=found.opens,
            closes=found.closes,
            asker=Asker(pid, uid, cgroup, command, source),
        )


def _rows(events: list[DnsEvent], maker: RowMaker) -> pa.RecordBatch:
    records = np.zeros(len(events), _RECORD)
    for record, event in zip(records, events, strict=True):
        ends, asker = event.conversation, event.asker
        record["local"], record["remote"] = _raw(ends.client_address), _raw(ends.server_address)
        record["local_port"], record["remote_port"] = ends.client_port, ends.server_port
        record["netns"], record["protocol"] = ends.netns, TRANSPORT_NUMBERS[ends.transport]
        record["pid"], record["uid"], record["cgroup"] = asker.pid, asker.uid, asker.cgroup
        record["comm"], record["owner_source"] = asker.command, asker.source
        record["time"], record["count"] = event.time_us * 1000, event.count
    records["role"] = r.ROLE_CLIENT
    durations = np.array([-1 if event.duration_us is None else event.duration_us for event in events])
    return event_rows(
        records,
        maker,
        {
            "kind": text(np.array([_KINDS.index(event.kind) for event in events]), _KINDS),
            "name": _texts([event.name for event in events]),
            "question_type": _texts([event.type for event in events]),
            "reason": _texts([event.reason or "" for event in events]),
            "duration_us": numbers(durations, durations < 0),
        },
    )


def _texts(values: list[str]) -> pa.DictionaryArray:
    """A text column; the empty text is null."""
    known = {value: code for code, value in enumerate(dict.fromkeys(values))}
    codes = np.array([known[value] for value in values])
    return text(codes, list(known), codes == known.get("", -1))


def _raw(address: str) -> bytes:
    """16 bytes; IPv4 as ::ffff:a.b.c.d."""
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return bytes(10) + b"\xff\xff" + socket.inet_aton(address)
