"""Flows that never were: seeded, vectorised, shaped like those of a server with clients, databases and bulk copies.

One generator serves the live source (`netrec record --source synthetic`) and long histories
(`flow_batches`): it makes the rows that end within a window of time. The same seed, windows and counts give
the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from netrec.trace import columns, tables

SOURCE_NAME = "synthetic"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAXIMUM_SEGMENT = 1448  # payload bytes of a full TCP segment on Ethernet with timestamps
_LEVEL_SECONDS = 1800.0
CATALOGUE = 500  # sizes per service
UNIQUE_SHARE = 0.2
CLOSES = ["fin", "rst_sent", "rst_received", "timeout", "connect_failed"]
CLOSE_SHARES = (0.97, 0.012, 0.012, 0.003, 0.003)


@dataclass(frozen=True)
class Service:
    """What one kind of flow looks like; `inbound`: this host is the server. Medians of log-normal sizes."""

    process: str
    port: int
    inbound: bool
    weight: float
    client_bytes: float
    server_bytes: float
    duration_us: float
    container: str | None = None
    unit: str = ""


SERVICES = (
    Service("nginx", 443, True, 0.46, 900, 6_000, 9_000, None, "nginx.service"),
    Service("nginx", 80, True, 0.08, 400, 600, 2_000, None, "nginx.service"),
    Service("gunicorn", 8000, True, 0.12, 1_500, 9_000, 25_000, "4f1d7c09ab52e3d8", "docker.service"),
    Service("gunicorn", 5432, False, 0.13, 700, 4_000, 6_000, "4f1d7c09ab52e3d8", "docker.service"),
    Service("gunicorn", 6379, False, 0.12, 120, 300, 700, "4f1d7c09ab52e3d8", "docker.service"),
    Service("prometheus", 9100, False, 0.03, 200, 60_000, 15_000, "c81e728d9d4c2f63", "docker.service"),
    Service("sshd", 22, True, 0.01, 3_000, 9_000, 800_000, None, "ssh.service"),
    Service("curl", 443, False, 0.04, 800, 20_000, 120_000, None, "cron.service"),
    Service("rsync", 873, False, 0.01, 2_000_000, 30_000, 2_000_000, None, "backup.service"),
)


class FlowGenerator:
    """Makes flow rows of one imagined host.

    `clients` is the number of distinct client addresses (popularity follows Zipf's law), `ipv6_share` the
    share of them that speak IPv6, `long_lived` the number of connections that never end and give one row per
    `active_timeout` seconds.
    """

    def __init__(
        self,
        seed: int = 1,
        *,
        host: str = "synthetic",
        clients: int = 2000,
        ipv6_share: float = 0.1,
        long_lived: int = 0,
        active_timeout: float = 10.0,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._host = host
        self._active_us = max(1, int(active_timeout * 1e6))
        self._next_flow = 1
        self._addresses(clients, ipv6_share)
        self._services()
        self._long_lived = self._open_long_lived(long_lived)

    def rows(self, start_us: int, end_us: int, count: int) -> pa.RecordBatch:
        """`count` rows of flows that end in [start_us, end_us), microseconds since 1970, sorted by end_time.

        Rows of long-lived connections that fall due in the window come on top, after the others.
        """
        random = self._random
        span = max(end_us - start_us, 1)
        end = np.sort(random.integers(start_us, start_us + span, count))
        service = random.choice(len(SERVICES), count, p=self._weights).astype(np.int32)
        client_bytes = self._sizes(self._client_sizes, service)
        server_bytes = self._sizes(self._server_sizes, service)
        close = random.choice(len(CLOSES), count, p=CLOSE_SHARES).astype(np.int32)
        peer = self._popular(count)
        round_trip = self._round_trip[peer]
        failed = close == CLOSES.index("connect_failed")
        client_bytes[failed] = 0
        server_bytes[failed] = 0
        minimum = (round_trip * (1 + random.exponential(0.05, count))).astype(np.int64)
        drawn: dict[str, np.ndarray] = {
            "end": end,
            "start": end - self._lognormal(self._duration[service], 0.8) - minimum,
            "service": service,
            "peer": peer,
            "client_bytes": client_bytes,
            "server_bytes": server_bytes,
            "close": close,
            "failed": failed,
            "rtt_min": minimum,
            "rtt": (minimum * (1 + random.exponential(0.2, count))).astype(np.int64),
            "latency": (minimum * (1 + random.exponential(0.1, count))).astype(np.int64),
        }
        # The kernel numbers flows as they begin; rows come out as they end.
        drawn["flow_id"] = np.empty(count, np.int64)
        drawn["flow_id"][np.argsort(drawn["start"], kind="stable")] = np.arange(
            self._next_flow, self._next_flow + count
        )
        self._next_flow += count
        short = self._batch(drawn, "end")
        due = self._due(end_us)
        return short if due is None else pa.concat_batches([short, due])

    def stop(self, now_us: int) -> pa.RecordBatch | None:
        """The `forced` rows of the long-lived connections, up to `now_us`; None when there are none."""
        flows = self._long_lived
        open_ones = np.flatnonzero(flows["last"] < now_us)
        return self._interval_rows(open_ones, np.full(len(open_ones), now_us), "forced") if len(open_ones) else None

    def begin(self, now_us: int) -> None:
        """Let the long-lived connections begin now, their intervals spread over one active timeout."""
        count = len(self._long_lived["last"])
        self._long_lived["begun"] = np.full(count, now_us)
        self._long_lived["last"] = np.full(count, now_us)
        self._long_lived["next"] = now_us + 1 + self._random.integers(0, self._active_us, count)

    def _addresses(self, clients: int, ipv6_share: float) -> None:
        random = self._random
        number = np.arange(clients) * 7919 % 2**24  # a prime step: distinct, and spread over the network
        self._is_ipv6 = random.random(clients) < ipv6_share
        texts = [
            f"2001:db8:{n >> 16:x}::{n & 0xFFFF:x}" if six and n & 0xFFFF else f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
            for n, six in zip(number.tolist(), self._is_ipv6.tolist(), strict=True)
        ]
        self._is_ipv6 = np.array([":" in text for text in texts])
        # The last two are this host itself, as IPv4 and IPv6.
        self._address_texts = [*texts, "192.0.2.10", "2001:db8::10"]
        self._own = np.where(self._is_ipv6, clients + 1, clients).astype(np.int32)
        self._round_trip = np.maximum(30, random.lognormal(math.log(800), 1.2, clients)).astype(np.int64)
        popularity = 1 / np.arange(1, clients + 1) ** 1.1
        self._popularity = np.cumsum(popularity / popularity.sum())

    def _services(self) -> None:
        self._weights = np.array([service.weight for service in SERVICES])
        self._weights /= self._weights.sum()
        self._client_sizes = self._catalogue([service.client_bytes for service in SERVICES], 1.0)
        self._server_sizes = self._catalogue([service.server_bytes for service in SERVICES], 1.2)
        self._duration = np.log([service.duration_us for service in SERVICES])
        self._inbound = np.array([service.inbound for service in SERVICES])
        self._port = np.array([service.port for service in SERVICES], np.int32)
        self._pid = np.array([800 + 137 * index for index in range(len(SERVICES))], np.int32)
        self._uid = np.array([33 if service.process == "nginx" else 1000 for service in SERVICES], np.int64)
        self._cgroup = np.array([4000 + 31 * index for index in range(len(SERVICES))], np.int64)
        self._netns = np.array([4026531840 if not service.container else 4026532613 for service in SERVICES], np.int64)

    def _open_long_lived(self, count: int) -> dict[str, np.ndarray]:
        random = self._random
        flow_id = np.arange(self._next_flow, self._next_flow + count)
        self._next_flow += count
        flows: dict[str, np.ndarray] = {
            "flow_id": flow_id,
            "service": random.choice(len(SERVICES), count, p=self._weights).astype(np.int32),
            "peer": self._popular(count),
            "port": random.integers(32768, 60999, count, dtype=np.int32),
            "begun": np.zeros(count, np.int64),
            "last": np.zeros(count, np.int64),
            "next": np.full(count, np.iinfo(np.int64).max),
        }
        return flows

    def _due(self, now_us: int) -> pa.RecordBatch | None:
        flows, batches = self._long_lived, []
        while len(index := np.flatnonzero(flows["next"] < now_us)):
            batches.append(self._interval_rows(index, flows["next"][index], "active"))
            flows["next"][index] += self._active_us
        return pa.concat_batches(batches) if batches else None

    def _interval_rows(self, index: np.ndarray, end: np.ndarray, reason: str) -> pa.RecordBatch:
        flows, count = self._long_lived, len(index)
        minimum = self._round_trip[flows["peer"][index]]
        rows = {
            "start": flows["last"][index].copy(),
            "end": end.astype(np.int64),
            "flow_start": flows["begun"][index],
            "flow_id": flows["flow_id"][index],
            "service": flows["service"][index],
            "peer": flows["peer"][index],
            "client_port": flows["port"][index],
            "client_bytes": self._random.integers(0, 50_000, count),
            "server_bytes": self._random.integers(0, 2_000_000, count),
            "rtt_min": minimum,
            "rtt": (minimum * (1 + self._random.exponential(0.2, count))).astype(np.int64),
            "latency": minimum,
        }
        flows["last"][index] = end
        return self._batch(rows, reason)

    def _catalogue(self, medians: list[float], spread: float) -> np.ndarray:
        """Sizes of each service's requests or replies: the same page gives the same size again and again."""
        return np.array([self._lognormal(np.full(CATALOGUE, math.log(median)), spread) for median in medians])

    def _sizes(self, catalogue: np.ndarray, service: np.ndarray) -> np.ndarray:
        """One size per flow: most from the catalogue, the popular ones more often, some like no other."""
        count = len(service)
        item = (CATALOGUE * self._random.random(count) ** 3).astype(np.int64)
        sizes = catalogue[service, item]
        unique = self._random.random(count) < UNIQUE_SHARE
        return np.where(unique, (sizes * self._random.uniform(0.5, 1.5, count)).astype(np.int64) + 1, sizes)

    def _popular(self, count: int) -> np.ndarray:
        return np.searchsorted(self._popularity, self._random.random(count)).clip(max=len(self._popularity) - 1)

    def _lognormal(self, location: np.ndarray, spread: float) -> np.ndarray:
        return np.exp(location + self._random.standard_normal(len(location)) * spread).astype(np.int64) + 1

    def _batch(self, rows: dict[str, np.ndarray], reason: str) -> pa.RecordBatch:
        random, count = self._random, len(rows["end"])
        service, peer = rows["service"], rows["peer"]
        inbound, own = self._inbound[service], self._own[peer]
        client_packets = self._packets(rows["client_bytes"], rows["server_bytes"])
        server_packets = self._packets(rows["server_bytes"], rows["client_bytes"])
        # Only the sender knows what it sent again.
        again = random.binomial(np.minimum(np.where(inbound, server_packets, client_packets), 10_000), 0.0004)
        over = rows.get("close")
        port = rows.get("client_port")
        if port is None:
            port = random.integers(16384, 30500, count, dtype=np.int32) * 2
        arrays: dict[str, Any] = {
            "start_time": columns.times(rows["start"]),
            "end_time": columns.times(rows["end"]),
            "flow_start_time": columns.times(rows.get("flow_start", rows["start"])),
            "flow_id": rows["flow_id"],
            "flow_end_reason": columns.constant(reason, count),
            "transport": columns.constant("tcp", count),
            "network_type": columns.text(self._is_ipv6[peer], ["ipv4", "ipv6"]),
            "client_address": columns.text(np.where(inbound, peer, own), self._address_texts),
            "client_port": port,
            "server_address": columns.text(np.where(inbound, own, peer), self._address_texts),
            "server_port": self._port[service],
            "role": columns.text(inbound, ["client", "server"]),
            "role_inferred": np.zeros(count, bool),
            "client_bytes": rows["client_bytes"],
            "server_bytes": rows["server_bytes"],
            "client_packets": client_packets,
            "server_packets": server_packets,
            "client_retransmits": columns.numbers(again, inbound),
            "server_retransmits": columns.numbers(again, ~inbound),
            "process_pid": self._pid[service],
            "process_name": columns.text(service, [one.process for one in SERVICES]),
            "process_uid": self._uid[service],
            "cgroup_id": self._cgroup[service],
            "container_id": _optional_text(service, [one.container for one in SERVICES]),
            "netns": self._netns[service],
            "process_source": columns.text(inbound, ["connect", "listener"]),
            "process_unit": columns.text(service, [one.unit for one in SERVICES]),
            "source": columns.constant(SOURCE_NAME, count),
            "host": columns.constant(self._host, count),
            "duplicate": np.zeros(count, bool),
        }
        if over is None:
            arrays |= {"rtt_us": rows["rtt"], "rtt_min_us": rows["rtt_min"], "connect_latency_us": rows["latency"]}
        else:
            unknown = rows["failed"]
            arrays["tcp_close"] = columns.text(over, CLOSES)
            for name, key in (("rtt_us", "rtt"), ("rtt_min_us", "rtt_min"), ("connect_latency_us", "latency")):
                arrays[name] = columns.numbers(rows[key], unknown)
        known = {name: one if isinstance(one, pa.Array) else _plain(one) for name, one in arrays.items()}
        return tables.batch(tables.FLOWS, known, count)

    @staticmethod
    def _packets(own: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Full segments of one's own, acknowledgements of the other's, and the three of SYN and FIN."""
        return -(-own // MAXIMUM_SEGMENT) + -(-other // (2 * MAXIMUM_SEGMENT)) + 3


def flow_batches(
    count: int,
    *,
    seed: int = 1,
    start: datetime,
    duration: float,
    host: str = "synthetic",
    rows_per_batch: int = 65_536,
    daily_swing: float = 0.0,
    growth_per_day: float = 0.0,
    long_lived: int = 0,
    clients: int = 2000,
) -> Iterator[pa.RecordBatch]:
    """`count` short flows that end in [start, start + duration seconds), in order, as record batches of `flows`.

    `daily_swing` (0 to 1) makes the rate follow a sine over the UTC day with its top at 14:00;
    `growth_per_day` (0.01: one per cent) lets it grow linearly. `long_lived` connections add one row each per
    ten seconds to the count.
    """
    generator = FlowGenerator(seed, host=host, clients=clients, long_lived=long_lived)
    start_us = (start - EPOCH).total_seconds() * 1e6
    generator.begin(int(start_us))
    # Where the n-th row falls: the inverse of the cumulated rate, tabulated per minute (at least 1000 points).
    points = max(1000, int(duration / 60))
    seconds = np.linspace(0, duration, points + 1)
    of_day = ((start_us / 1e6 + seconds) % 86400) / 86400
    rate = (1 + daily_swing * np.cos(2 * np.pi * (of_day - 14 / 24))) * (1 + growth_per_day * seconds / 86400)
    cumulated = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    cumulated *= count / cumulated[-1]
    done, opened = 0, int(start_us)
    # Within a batch the rate is level: where it changes, batches are short.
    level = not (daily_swing or growth_per_day)
    while done < count:
        ahead = (
            count if level else int(np.interp((opened - start_us) / 1e6 + _LEVEL_SECONDS, seconds, cumulated)) - done
        )
        rows = min(rows_per_batch, count - done, max(1, ahead))
        closed = int(start_us + np.interp(done + rows, cumulated, seconds) * 1e6)
        batch = generator.rows(opened, closed, rows)
        yield batch.sort_by("end_time") if long_lived else batch
        done, opened = done + rows, closed


def now_us() -> int:
    """Now, in microseconds since 1970."""
    return int((datetime.now(UTC) - EPOCH).total_seconds() * 1e6)


def _optional_text(index: np.ndarray, values: list[str | None]) -> pa.DictionaryArray:
    """Text by index; an index whose value is None becomes null."""
    missing = np.array([value is None for value in values])
    return columns.text(index, [value or "" for value in values], missing[index])


def _plain(values: np.ndarray) -> pa.Array:
    if values.dtype == bool:
        return columns.booleans(values)
    return columns.numbers(values, kind=pa.int32() if values.dtype == np.int32 else pa.int64())
