"""Traces with a known incident in them: each known pattern as its packets would leave it, and days without any.

What is written is the trace format itself (flows, and events and gauges where the pattern has them), so the whole
of `netrec analyze incident` is held against it, from SQL to sentence. Seeded; nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import layout, metadata, tables

START = int(datetime(2026, 11, 20, 13, 50, tzinfo=UTC).timestamp() * 1e6)
SECONDS = 900
OWN = "10.0.0.1"
SERVICES = (("10.0.1.5", 5432), ("10.0.1.6", 6379), ("10.0.1.7", 8443), ("10.0.1.8", 9200))
RESOLVER = "10.0.1.2"


@dataclass
class Traffic:
    """Rows to be: numeric arrays by field (NaN is null), texts as object arrays, in no order."""

    columns: dict[str, np.ndarray]
    events: list[dict[str, Any]] = field(default_factory=list)
    gauges: list[dict[str, Any]] = field(default_factory=list)

    def inside(self, window: tuple[float, float]) -> np.ndarray:
        """Which rows began inside the window (seconds from the start)."""
        began = (self.columns["start"] - START) / 1e6
        return (began >= window[0]) & (began < window[1])

    def keep(self, mask: np.ndarray) -> None:
        """Drop the other rows."""
        self.columns = {name: values[mask] for name, values in self.columns.items()}

    def add(self, other: Traffic) -> None:
        """Add rows."""
        self.columns = {name: np.concatenate([values, other.columns[name]]) for name, values in self.columns.items()}


def connections(
    generator: np.random.Generator, count: int, window: tuple[float, float], *, client: str | None = None,
    server: tuple[str, int] | None = None, size: float = 4000.0,
) -> Traffic:  # fmt: skip
    """Ordinary short connections: half of them inbound to port 443, the others to the services."""
    start = START + generator.uniform(window[0], window[1], count) * 1e6
    inbound = (generator.random(count) < 0.5) & (server is None)
    peers = np.array([f"192.168.{generator.integers(0, 4)}.{host}" for host in range(10, 70)], dtype=object)
    choice = generator.integers(0, len(SERVICES), count)
    addresses = np.array([address for address, _ in SERVICES], dtype=object)[choice]
    ports = np.array([port for _, port in SERVICES])[choice]
    if server:
        addresses, ports = np.full(count, server[0], dtype=object), np.full(count, server[1])
    sent = np.exp(generator.normal(np.log(size / 4), 0.8, count)).astype(np.int64) + 1
    answered = np.exp(generator.normal(np.log(size), 1.0, count)).astype(np.int64) + 1
    minimum = np.exp(generator.normal(np.log(400), 0.2, count))
    client_packets = sent // 1448 + answered // 2896 + 4
    server_packets = answered // 1448 + sent // 2896 + 4
    close = np.full(count, "fin", dtype=object)
    draw = generator.random(count)
    close[draw < 0.010] = "rst_received"
    close[draw < 0.002] = "connect_failed"
    failed = close == "connect_failed"
    lost = generator.binomial(client_packets + server_packets, 0.0005)
    return Traffic(
        {
            "start": start,
            "end": start + minimum * 2 + generator.exponential(20_000, count),
            "client": np.where(inbound, generator.choice(peers, count), client or OWN),
            "server": np.where(inbound, OWN, addresses),
            "port": np.where(inbound, 443, ports),
            "inbound": inbound,
            "close": close,
            "reason": np.full(count, "end", dtype=object),
            "client_bytes": np.where(failed, 0, sent),
            "server_bytes": np.where(failed, 0, answered),
            "client_packets": np.where(failed, 1, client_packets),
            "server_packets": np.where(failed, 1, server_packets),
            "retransmits": np.where(failed, 0, lost),
            "latency": np.where(failed | inbound, np.nan, minimum * generator.uniform(1.0, 1.3, count)),
            "rtt": np.where(failed, np.nan, minimum * (1 + generator.exponential(0.3, count))),
            "rtt_min": np.where(failed, np.nan, minimum),
            "flow": np.arange(count) + generator.integers(1, 2**40),
            "first": np.ones(count, dtype=bool),
            "transport": np.full(count, "tcp", dtype=object),
        }
    )


def pooled(generator: np.random.Generator, count: int = 12, interval: float = 5.0) -> Traffic:
    """Long connections to the services, one row every five seconds."""
    parts: Traffic | None = None
    for _ in range(count):
        moments = np.arange(generator.uniform(0, interval), SECONDS, interval)
        rows = connections(generator, len(moments), (0, 1), server=SERVICES[generator.integers(0, 4)], size=60_000)
        rows.columns |= {
            "start": START + moments * 1e6,
            "end": START + (moments + interval) * 1e6,
            "close": np.full(len(moments), None, dtype=object),
            "reason": np.full(len(moments), "active", dtype=object),
            "latency": np.full(len(moments), np.nan),
            "first": np.zeros(len(moments), dtype=bool),
            "flow": np.full(len(moments), generator.integers(2**41, 2**42)),
        }
        if parts is None:
            parts = rows
        else:
            parts.add(rows)
    assert parts is not None
    return parts


def queries(generator: np.random.Generator, count: int) -> Traffic:
    """DNS queries, nearly all of them answered."""
    rows = connections(generator, count, (0, SECONDS), server=(RESOLVER, 53), size=200)
    answered = generator.random(count) < 0.995
    rows.columns |= {
        "transport": np.full(count, "udp", dtype=object),
        "close": np.full(count, None, dtype=object),
        "reason": np.full(count, "idle", dtype=object),
        "client_bytes": np.full(count, 40.0),
        "server_bytes": np.where(answered, 120.0, 0.0),
        "client_packets": np.ones(count),
        "server_packets": np.where(answered, 1.0, 0.0),
        "retransmits": np.full(count, np.nan),
        "latency": np.full(count, np.nan),
        "rtt": np.full(count, np.nan),
        "rtt_min": np.full(count, np.nan),
    }
    return rows


def ordinary(generator: np.random.Generator) -> Traffic:
    """A quarter of an hour of a busy host, with gauges every ten seconds."""
    rate = generator.uniform(20, 50)
    traffic = connections(generator, int(rate * SECONDS), (0, SECONDS))
    # Load wanders slowly, as real load does.
    began = (traffic.columns["start"] - START) / 1e6
    phase, depth = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.2)
    traffic.keep(generator.random(len(began)) < (1 + depth * np.sin(2 * np.pi * began / 1200 + phase)) / (1 + depth))
    traffic.add(pooled(generator))
    traffic.add(queries(generator, int(rate * SECONDS * 0.1)))
    for second in range(0, SECONDS, 10):
        for resource, level, limit in (
            ("conntrack", 20_000, 65_536), ("ephemeral_ports", 2_000, 28_232), ("listen_queue:*:443", 3, 511),
            ("link:eth0:rx", 2e7, 1.25e8), ("softnet_drops", 0, None),
        ):  # fmt: skip
            gauge(traffic, second, resource, level * generator.uniform(0.9, 1.1), limit)
    return traffic


def gauge(traffic: Traffic, second: float, resource: str, used: float, limit: float | None) -> None:
    """One reading; a later one of the same second and resource replaces it."""
    traffic.gauges = [g for g in traffic.gauges if (g["second"], g["resource"]) != (second, resource)]
    traffic.gauges.append({"second": second, "resource": resource, "used": used, "limit": limit})


def gauges(traffic: Traffic, window: tuple[float, float], resource: str, used: float, limit: float | None) -> None:
    """Readings of one resource all through the window."""
    for second in range(0, SECONDS, 10):
        if window[0] <= second < window[1]:
            gauge(traffic, second, resource, used, limit)


def event(traffic: Traffic, window: tuple[float, float], kind: str, per_second: int, reason: str | None = None) -> None:
    """Events all through the window, a row a second."""
    for second in np.arange(window[0], window[1], 1.0):
        traffic.events.append({"second": second, "kind": kind, "count": per_second, "reason": reason})


def accept_queue(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & (c["port"] == 8443) & c["first"] & (generator.random(len(c["port"])) < 0.4)
    c["latency"][hit] = generator.choice([1.02e6, 3.05e6, 7.1e6], hit.sum(), p=[0.7, 0.2, 0.1]) * generator.uniform(
        1, 1.05
    )
    c["end"][hit] += c["latency"][hit]
    if generator.random() < 0.7:
        event(traffic, window, "listen_overflow", 20)


def ephemeral_ports(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    busy = connections(generator, int(80 * (window[1] - window[0])), window, server=("10.0.1.5", 5432), size=500)
    lost = generator.random(len(busy.columns["port"])) < generator.uniform(0.2, 0.6)
    busy.columns["close"][lost] = "connect_failed"
    for name in ("client_packets", "server_packets", "client_bytes", "server_bytes", "retransmits"):
        busy.columns[name] = np.where(lost, 0, busy.columns[name])
    for name in ("latency", "rtt", "rtt_min"):
        busy.columns[name] = np.where(lost, np.nan, busy.columns[name])
    busy.columns["end"] = np.where(lost, busy.columns["start"] + 100, busy.columns["end"])
    traffic.add(busy)
    gauges(traffic, window, "ephemeral_ports", 28_200, 28_232)


def conntrack(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & c["first"] & (c["transport"] == "tcp")
    fail(c, hit & (generator.random(len(hit)) < generator.uniform(0.3, 0.7)), packets=4.0, lasts=3e6)
    gauges(traffic, window, "conntrack", 65_500, 65_536)
    gauges(traffic, window, "conntrack_drop", 400, None)


def retransmit_storm(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & (c["server"] == "10.0.1.7")
    lose(c, hit, generator.uniform(0.05, 0.15), generator)


def rst_spike(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & (c["server"] == "10.0.1.8") & c["first"]
    hit &= generator.random(len(hit)) < generator.uniform(0.5, 0.9)
    if generator.random() < 0.5:
        fail(c, hit, packets=1.0, lasts=500)
    else:
        c["close"][hit] = "rst_received"


def zero_window(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & (c["reason"] == "active") & (generator.random(len(c["port"])) < 0.9)
    for name in ("client_bytes", "server_bytes", "retransmits"):
        c[name][hit] = 0
    c["client_packets"][hit], c["server_packets"][hit] = 2, 2
    if generator.random() < 0.7:
        event(traffic, window, "zero_window", 5)


def mtu_black_hole(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & c["first"] & (c["transport"] == "tcp") & (c["server_bytes"] >= 1400)
    hit &= np.isin(c["server"], ["10.0.1.5", "10.0.1.7", OWN]) & (c["close"] == "fin")
    c["close"][hit] = "timeout"
    c["server_bytes"][hit] = 0
    c["server_packets"][hit] = 8
    c["retransmits"][hit] = generator.integers(4, 8, hit.sum())
    c["end"][hit] += generator.uniform(8e6, 15e6, hit.sum())


def incast(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    burst: Traffic | None = None
    workers = [f"10.0.3.{number}" for number in range(10, 10 + int(generator.integers(20, 40)))]
    for second in np.arange(window[0], window[1], 2.0):
        for worker in workers:
            rows = connections(generator, 1, (second, second + 0.05), server=(OWN, 9000), client=worker, size=40_000)
            if burst is None:
                burst = rows
            else:
                burst.add(rows)
    assert burst is not None
    burst.columns["retransmits"] = generator.binomial(60, 0.15, len(burst.columns["port"]))
    burst.columns["latency"][:] = np.nan
    traffic.add(burst)


def dns(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & (c["port"] == 53) & (generator.random(len(c["port"])) < generator.uniform(0.7, 0.95))
    c["server_bytes"][hit] = 0
    c["server_packets"][hit] = 0
    late = (window[0] + generator.uniform(3, 8), window[1])
    gone = (
        traffic.inside(late)
        & c["first"]
        & (c["port"] != 53)
        & (generator.random(len(hit)) < generator.uniform(0.6, 0.8))
    )
    traffic.keep(~gone)


def churn(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    count = int(generator.uniform(150, 300) * (window[1] - window[0]))
    traffic.add(connections(generator, count, window, server=("10.0.1.6", 6379), size=200))


def elephant(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    moments = np.arange(window[0], window[1], 5.0)
    rows = connections(generator, len(moments), (0, 1), server=("10.0.9.9", 873))
    rows.columns |= {
        "start": START + moments * 1e6,
        "end": START + (moments + 5) * 1e6,
        "close": np.full(len(moments), None, dtype=object),
        "reason": np.full(len(moments), "active", dtype=object),
        "client_bytes": generator.uniform(2e7, 5e7, len(moments)),
        "first": np.arange(len(moments)) == 0,
        "flow": np.full(len(moments), 2**50),
        "retransmits": np.zeros(len(moments)),
    }
    rows.columns["client_packets"] = rows.columns["client_bytes"] // 1448
    traffic.add(rows)


def asymmetric_path(traffic: Traffic, window: tuple[float, float], generator: np.random.Generator) -> None:
    c = traffic.columns
    hit = traffic.inside(window) & c["first"] & (c["close"] == "fin") & (generator.random(len(c["port"])) < 0.6)
    for name in ("server_packets", "server_bytes"):
        c[name][hit] = 0
    c["rtt"][hit] = np.nan


def fail(c: dict[str, np.ndarray], hit: np.ndarray, packets: float, lasts: float) -> None:
    c["close"][hit] = "connect_failed"
    for name, value in (("client_packets", packets), ("server_packets", 1.0), ("client_bytes", 0.0),
                        ("server_bytes", 0.0), ("retransmits", max(packets - 1, 0.0)), ("latency", np.nan),
                        ("rtt", np.nan), ("rtt_min", np.nan)):  # fmt: skip
        c[name][hit] = value
    c["end"][hit] = c["start"][hit] + lasts


def lose(c: dict[str, np.ndarray], hit: np.ndarray, share: float, generator: np.random.Generator) -> None:
    packets = (c["client_packets"] + c["server_packets"])[hit].astype(np.int64)
    lost = generator.binomial(packets, share)
    c["retransmits"][hit] = lost
    c["rtt"][hit] *= 1.5
    c["end"][hit] += lost * 200_000


PATTERNS: dict[str, Callable[[Traffic, tuple[float, float], np.random.Generator], None]] = {
    "accept-queue": accept_queue, "ephemeral-ports": ephemeral_ports, "conntrack": conntrack,
    "retransmit-storm": retransmit_storm, "rst-spike": rst_spike, "zero-window": zero_window,
    "mtu-black-hole": mtu_black_hole, "incast": incast, "dns": dns, "churn": churn, "elephant": elephant,
    "asymmetric-path": asymmetric_path,
}  # fmt: skip


def make(folder: Path, pattern: str | None, seed: int) -> tuple[float, float]:
    """Write a trace with this pattern (None: a clean one); returns the incident's window, seconds from the start."""
    generator = np.random.default_rng([seed, sum(map(ord, pattern or "clean"))])
    traffic = ordinary(generator)
    first = float(generator.uniform(400, 550))
    window = (first, first + float(generator.uniform(90, 180)))
    if pattern:
        PATTERNS[pattern](traffic, window, generator)
    write(folder, traffic)
    return window


def write(folder: Path, traffic: Traffic) -> None:
    """The rows as a finished trace."""
    c = traffic.columns
    order = np.argsort(c["end"], kind="stable")
    c = {name: values[order] for name, values in c.items()}
    inbound = c["inbound"].astype(bool)
    lost = c["retransmits"].astype(float)
    began = np.where(c["first"].astype(bool), c["start"], c["start"] - 1e9)
    numbers = {
        "start_time": c["start"], "end_time": c["end"], "flow_start_time": began, "flow_id": c["flow"],
        "server_port": c["port"], "client_bytes": c["client_bytes"], "server_bytes": c["server_bytes"],
        "client_packets": c["client_packets"], "server_packets": c["server_packets"],
        "client_retransmits": np.where(inbound, np.nan, lost), "server_retransmits": np.where(inbound, lost, np.nan),
        "connect_latency_us": c["latency"], "rtt_us": c["rtt"], "rtt_min_us": c["rtt_min"],
    }  # fmt: skip
    texts = {
        "flow_end_reason": c["reason"], "tcp_close": c["close"], "transport": c["transport"],
        "client_address": c["client"], "server_address": c["server"],
        "role": np.where(inbound, "server", "client"), "process_name": np.where(inbound, "nginx", "app"),
        "source": np.full(len(order), "synthetic"), "host": np.full(len(order), "web-1"),
    }  # fmt: skip
    _write(folder, tables.FLOWS, numbers, texts, len(order))
    if traffic.events:
        seconds = np.array([row["second"] for row in traffic.events])
        _write(
            folder, tables.EVENTS,
            {"time": START + seconds * 1e6, "count": np.array([row["count"] for row in traffic.events])},
            {"kind": np.array([row["kind"] for row in traffic.events], dtype=object)},
            len(seconds),
        )  # fmt: skip
    seconds = np.array([row["second"] for row in traffic.gauges])
    limits = np.array([np.nan if row["limit"] is None else row["limit"] for row in traffic.gauges])
    _write(
        folder, tables.HOST,
        {"time": START + seconds * 1e6, "used": np.array([row["used"] for row in traffic.gauges]), "limit": limits},
        {"resource": np.array([row["resource"] for row in traffic.gauges], dtype=object)},
        len(seconds),
    )  # fmt: skip


def _write(folder: Path, table: tables.Table, numbers: dict[str, Any], texts: dict[str, Any], rows: int) -> None:
    columns: dict[str, pa.Array] = {}
    for name, values in numbers.items():
        kind = table.schema.field(name).type
        missing = np.isnan(values.astype(float))
        if pa.types.is_floating(kind):
            columns[name] = pa.array(values.astype(float), mask=missing)
        else:
            whole = pa.array(np.where(missing, 0, values.astype(float)).astype(np.int64), mask=missing)
            columns[name] = whole.cast(kind)
    columns |= {name: pa.array(values.tolist(), pa.string()) for name, values in texts.items()}
    batch = tables.batch(table, columns, rows)
    hour = datetime.fromtimestamp(START / 1e6, UTC).replace(minute=0, second=0, microsecond=0)
    name = layout.TraceFile(table.name, hour, "web-1", "20261120T135000Z000001", 0)
    opened = datetime.fromtimestamp(START / 1e6, UTC).isoformat()
    closed = datetime.fromtimestamp(START / 1e6 + SECONDS, UTC).isoformat()
    capture = metadata.CaptureMetadata(
        "web-1", name.capture, "synthetic", capture_start=opened, netrec_version="0", command_line="benchmark"
    )
    about = metadata.FileMetadata(capture, table.name, 0, rows, 0, opened, "end", closed)
    path = folder / name.relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(metadata.encode(about)), path)
