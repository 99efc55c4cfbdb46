"""Every field of every table, once: name, Arrow type, unit, meaning, and its names elsewhere.

The reference page of the trace format is generated from this module. Types are those that every engine
reads alike: signed integers, float64, bool, string (dictionary-encoded), timestamp[us, UTC].
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us", tz="UTC")
INT16 = pa.int16()
INT32 = pa.int32()
INT64 = pa.int64()
FLOAT = pa.float64()
BOOL = pa.bool_()


@dataclass(frozen=True)
class Field:
    """One column of a table.

    `ipfix` is the IANA IPFIX information element, `otel` the OpenTelemetry attribute that means the same
    (empty: none does). `values` lists the closed set of values of a text field (empty: open). `since` is the format
    version that brought it: files of earlier ones lack it, and it reads as null.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    ipfix: str = ""
    otel: str = ""
    values: tuple[str, ...] = ()
    since: int = 1

    @property
    def arrow(self) -> pa.Field:
        """The Arrow field; every column may hold null."""
        return pa.field(self.name, self.type)


# The order of a tuple is the order of the columns. A new field goes to the end of its group.
INTERVAL = (
    Field("start_time", TIME, "UTC", "start of this row's interval", "flowStartMicroseconds"),
    Field("end_time", TIME, "UTC", "end of this row's interval", "flowEndMicroseconds"),
)

FLOW_LIFE = (
    Field("flow_start_time", TIME, "UTC", "when the flow began (null: before the capture)"),
    Field("flow_id", INT64, "", "unique per flow within a capture; joins the rows of one flow", "flowId"),
    Field(
        "flow_end_reason",
        TEXT,
        "",
        "why this row was written: idle or end (the flow is over), active (the interval ran out), forced "
        "(the capture stopped), lack_of_resources",
        "flowEndReason",
        values=("idle", "active", "end", "forced", "lack_of_resources"),
    ),
    Field(
        "tcp_close",
        TEXT,
        "",
        "how the TCP connection ended; null while it is open and for other transports",
        values=("fin", "rst_sent", "rst_received", "timeout", "connect_failed"),
    ),
)

FLOW_IDENTITY = (
    Field("transport", TEXT, "", "tcp, udp, icmp, ...", "protocolIdentifier", "network.transport"),
    Field("network_type", TEXT, "", "ipv4 or ipv6", "ipVersion", "network.type", values=("ipv4", "ipv6")),
    Field(
        "client_address",
        TEXT,
        "",
        "initiator's address, canonical text",
        "sourceIPv4Address",
        "client.address",
    ),
    Field("client_port", INT32, "", "initiator's port", "sourceTransportPort", "client.port"),
    Field(
        "server_address",
        TEXT,
        "",
        "responder's address, canonical text",
        "destinationIPv4Address",
        "server.address",
    ),
    Field("server_port", INT32, "", "responder's port", "destinationTransportPort", "server.port"),
    Field(
        "role",
        TEXT,
        "",
        "the side that the observer's socket is on: client, server; both: one row stands for the two ends of a "
        "local connection; none: a gateway in between",
        values=("client", "server", "both", "none"),
    ),
    Field("role_inferred", BOOL, "", "true when who initiated is a guess: the flow began before the capture"),
)

FLOW_COUNTERS = (
    Field("client_bytes", INT64, "byte", "payload bytes sent by the client in this interval", "initiatorOctets"),
    Field("server_bytes", INT64, "byte", "payload bytes sent by the server in this interval", "responderOctets"),
    Field("client_packets", INT64, "packet", "packets sent by the client in this interval", "initiatorPackets"),
    Field("server_packets", INT64, "packet", "packets sent by the server in this interval", "responderPackets"),
    Field(
        "client_retransmits",
        INT64,
        "segment",
        "segments retransmitted by the client (null: cannot be seen from here)",
    ),
    Field(
        "server_retransmits",
        INT64,
        "segment",
        "segments retransmitted by the server (null: cannot be seen from here)",
    ),
    Field("connect_latency_us", INT64, "us", "from the first SYN to established, as the client waits for it"),
    Field("rtt_us", INT64, "us", "smoothed round-trip time at the end of the interval"),
    Field("rtt_min_us", INT64, "us", "minimum round-trip time that the kernel has kept"),
)

PROCESS = (
    Field("process_pid", INT32, "", "owner's process id, in the initial pid namespace", otel="process.pid"),
    Field("process_name", TEXT, "", "owner's command name", otel="process.command"),
    Field("process_uid", INT64, "", "owner's user id", otel="process.user.id"),
    Field("cgroup_id", INT64, "", "inode of the owner's cgroup (v2)", otel="process.cgroup"),
    Field("container_id", TEXT, "", "container, from the cgroup's path", otel="container.id"),
    Field("netns", INT64, "", "inode of the socket's network namespace"),
    Field(
        "process_source",
        TEXT,
        "",
        "how the owner is known: connect, close, send or create (seen doing it to this socket), listener (owner of the "
        "listening socket), scan (holds the descriptor), unknown",
        values=("connect", "close", "listener", "scan", "unknown", "send", "create"),
    ),
    Field("process_unit", TEXT, "", "systemd unit or slice, from the cgroup's path"),
    Field(
        "process_executable",
        TEXT,
        "",
        "path of the executable (--process-details)",
        otel="process.executable.path",
    ),
    Field(
        "process_command_hash",
        TEXT,
        "",
        "keyed SHA-256 of the command line (--process-details); never the line itself",
    ),
)

SESSION = (
    Field("server_name", TEXT, "", "name of the server: TLS SNI, HTTP host, DNS", otel="server.name"),
    Field("server_name_source", TEXT, "", "how server_name is known", values=("tls", "http", "dns", "log")),
    Field("client_name", TEXT, "", "name of the client, from DNS answers", otel="client.name"),
    Field("tls_version", TEXT, "", "highest version offered in the TLS ClientHello", otel="tls.protocol.version"),
    Field(
        "alpn",
        TEXT,
        "",
        "first application protocol offered in the TLS ClientHello",
        otel="tls.next_protocol",
    ),
    Field(
        "http_method",
        TEXT,
        "",
        "method of the first HTTP request",
        "httpRequestMethod",
        "http.request.method",
    ),
    Field(
        "http_host",
        TEXT,
        "",
        "Host header of the first HTTP request",
        "httpRequestHost",
        "http.request.header.host",
    ),
    Field(
        "http_path",
        TEXT,
        "",
        "path of the first HTTP request, without its query",
        "httpRequestTarget",
        "url.path",
    ),
    Field(
        "http_status",
        INT32,
        "",
        "status of the first HTTP response",
        "httpStatusCode",
        "http.response.status_code",
    ),
    Field("time_to_first_byte_us", INT64, "us", "from the session's start to the server's first payload byte"),
    Field("closed_by", TEXT, "", "which side ended the session", values=("client", "server", "proxy")),
)

SAMPLING = (
    Field(
        "sampling_interval",
        INT64,
        "",
        "1 in so many flows was recorded: counters count so often (null: 1)",
        "samplingInterval",
    ),
    Field(
        "flow_count",
        INT64,
        "flow",
        "short flows alike that this row holds together: its counters are their sums, its times their means; "
        "client_port is null (null: 1)",
        since=2,
    ),
    Field(
        "flow_duration_us", INT64, "us", "mean duration of those flows (null: end_time less flow_start_time)", since=2
    ),
)

OBSERVER = (
    Field("source", TEXT, "", "what recorded this row: ebpf, tproxy, haproxy, ..."),
    Field("host", TEXT, "", "the observer's host name", "exporterHostname", "host.name"),
)

DUPLICATE = (
    Field(
        "duplicate",
        BOOL,
        "",
        "true on the second sighting of the same bytes on this host (the server's row of a local pair): sums skip it",
    ),
)

EVENT = (
    Field("time", TIME, "UTC", "when; the last time when count > 1"),
    Field(
        "kind",
        TEXT,
        "",
        "retransmit, reset_sent, reset_received, connect_failed, listen_overflow, syn_drop, drop, zero_window, "
        "dns_query, dns_failure, ...",
    ),
)

EVENT_DETAIL = (
    Field("name", TEXT, "", "what the event is about when that is not a flow: a DNS name, a device", otel=""),
    Field("reason", TEXT, "", "the kernel's reason or errno, by name"),
    Field("count", INT64, "event", "how many equal events this row stands for"),
    Field("duration_us", INT64, "us", "how long it took (a DNS query); the longest when count > 1"),
    Field("question_type", TEXT, "", "type of a DNS question: A, AAAA, ..."),
)

GAUGE = (
    Field("time", TIME, "UTC", "when it was read"),
    Field("resource", TEXT, "", "what is measured, e.g. link:eth0:rx, conntrack, listen_queue:*:443, tcp_memory"),
    Field("used", FLOAT, "see unit", "value now; for counters the increase since the last reading"),
    Field("limit", FLOAT, "see unit", "the most that it can be (null: no limit)"),
    Field("unit", TEXT, "", "unit of used and limit"),
    Field("netns", INT64, "", "inode of the network namespace"),
)

RECORDER_HEALTH = (
    Field("kind", TEXT, "", "interval (regular), gap (not recording), degraded, restored, clock_step"),
    Field("reason", TEXT, "", "why, in words; null for a regular interval without loss"),
    Field("events_seen", INT64, "event", "flow records that left the kernel in this interval"),
    Field("events_lost", INT64, "event", "flow records lost in this interval, wherever it happened"),
    Field("lost_in_ring", INT64, "event", "lost because the ring buffer was full; of other sources: see reason"),
    Field(
        "lost_in_map", INT64, "event", "lost because the kernel's map of flows was full; of other sources: see reason"
    ),
    Field("lost_in_kernel", INT64, "event", "program runs that the kernel skipped (re-entrance)"),
    Field("lost_on_disk", INT64, "event", "rows not written because the disk was full"),
    Field("map_used", INT64, "entry", "flows in the kernel's map"),
    Field(
        "map_limit",
        INT64,
        "entry",
        "places in it; ebpf has twice --max-flows, so that its buckets are hardly ever full",
    ),
    Field("ring_used", INT64, "byte", "highest fill of the ring buffer in this interval"),
    Field("ring_limit", INT64, "byte", "size of the ring buffer"),
    Field("rows_written", INT64, "row", "rows appended to the spool in this interval"),
    Field("owners_known", INT64, "flow", "flow rows of this interval whose owner process is known"),
    Field("recorder_cpu_us", INT64, "us", "CPU time of the recorder and its children in this interval"),
    Field("recorder_memory_bytes", INT64, "byte", "resident memory of the recorder and its children"),
    Field("sampling_interval", INT64, "", "1 in this many flows is recorded (1: all)", "samplingInterval"),
    Field("active_timeout_us", INT64, "us", "active timeout in force", "flowActiveTimeout"),
    Field(
        "programs_cpu_us",
        INT64,
        "us",
        "run time of its programs in the kernel, measured a tenth of the time (null: not measured, see --max-cpu)",
        since=2,
    ),
)
