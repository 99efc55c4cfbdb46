"""Time buckets of a trace -> one series a metric. All of the heavy work is SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.compare.measure import COUNTS, HISTOGRAMS
from analyze.frames import frame
from analyze.statistics.timeline import EITHER, Series

if TYPE_CHECKING:
    from analyze.scan import Scan

MOST_BUCKETS = 720
FINEST_SECONDS = 1.0
LEAST_TRIALS = 5
LATENCY_FLOOR_US = 200.0  # on a fast network a busy processor shows as tens of microseconds

# Row-wise counts beside those of a comparison.
MORE = {
    "dns": "coalesce(server_port = 53, false)::INTEGER",
    "dns_answered": "coalesce(server_port = 53 and server_bytes > 0, false)::INTEGER",
    "completed": "coalesce(tcp_close = 'fin', false)::INTEGER",
    "one_way": "coalesce(tcp_close = 'fin' and least(client_packets, server_packets) = 0 "
    "and greatest(client_packets, server_packets) > 2, false)::INTEGER",
    "open": "coalesce(flow_end_reason = 'active' and transport = 'tcp', false)::INTEGER",
    "silent": "coalesce(flow_end_reason = 'active' and transport = 'tcp' and bytes = 0, false)::INTEGER",
}
# Event kinds whose number matters in itself, and what people call them.
EVENTS = {
    "listen_overflow": "listen queue overflows",
    "drop": "dropped packets",
    "zero_window": "zero windows",
    "dns_failure": "failed DNS queries",
}


@dataclass(frozen=True)
class Grid:
    """Time buckets: `start` in microseconds since 1970 UTC, `width` of a bucket in microseconds, their number."""

    start: int
    width: int
    count: int

    @property
    def end(self) -> int:
        """End of the last bucket."""
        return self.start + self.width * self.count

    def time(self, bucket: float) -> int:
        """When a bucket begins."""
        return round(self.start + bucket * self.width)

    def bucket_sql(self, column: str) -> str:
        """SQL for the bucket that a time lies in."""
        return f"((epoch_us({column}) - {self.start}) // {self.width})"


def grid(start: int, end: int, most: int = MOST_BUCKETS) -> Grid:
    """Whole buckets of whole seconds (at least one) from `start` on, at most `most`; a part at the end is left out."""
    start = start // 1_000_000 * 1_000_000
    seconds = max((end - start) / 1e6, 1.0)
    width = max(FINEST_SECONDS, float(np.ceil(seconds / most)))
    return Grid(start, round(width * 1e6), max(1, int(seconds / width)))


def extent(scan: Scan) -> tuple[int, int] | None:
    """First and last moment of the trace's flows in its window; None without a row."""
    first, last = scan.fetch("select epoch_us(min(end_time)), epoch_us(max(end_time)) from flow")[0]
    return None if first is None else (first, last + 1)


def load(scan: Scan, on: Grid) -> list[Series]:
    """Every series that this trace can give."""
    table = _flows(scan, on)
    seconds = on.width / 1e6
    values = {name: table[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in (*COUNTS, *MORE)}
    ended = values["closed"] + values["connect_failures"]
    result = [
        Series("flow_rate", "new connections per second", values["flows"] / seconds, "log", EITHER, 1.0, "/s"),
        Series("byte_rate", "bytes per second",
               _bytes(scan, on) / seconds, "log", EITHER, 2.0, "byte/s"),
        Series("bytes_per_flow", "bytes per new connection",
               _per(values["bytes"], values["flows"]), "log", 0, 0.5, "byte"),
        _ratio("retransmit_ratio", "retransmitted share of packets", values["retransmits"], values["packets"], 0.005),
        _ratio("connect_failure_ratio", "failed share of connects",
               values["connect_failures"], values["connects"], 0.01),
        _ratio("reset_share", "reset share of finished connections", values["resets"], ended, 0.03),
        _ratio("timeout_share", "timed-out share of finished connections", values["timeouts"], ended, 0.02),
        Series("connect_latency", "connect latency", _exponential(table, "log_connect_latency"), "log", 1, 0.3, "us",
               floor=LATENCY_FLOOR_US),
        Series("rtt", "round-trip time", _exponential(table, "log_rtt"), "log", 1, 0.3, "us", floor=LATENCY_FLOOR_US),
        _ratio("one_way_share", "share of finished connections seen from one side only",
               values["one_way"], values["completed"], 0.1),
        _ratio("silent_share", "share of open connections without a byte", values["silent"], values["open"], 0.2),
        _ratio("dns_unanswered", "unanswered share of DNS queries",
               values["dns"] - values["dns_answered"], values["dns"], 0.1),
    ]  # fmt: skip
    result += _gauges(scan, on) + _events(scan, on)
    return [series for series in result if np.isfinite(series.values).any()]


def _flows(scan: Scan, on: Grid) -> pl.DataFrame:
    sums = ", ".join(f"sum({sql})::BIGINT as {name}" for name, sql in {**COUNTS, **MORE}.items())
    logs = ", ".join(
        f"avg(ln({sql})) filter (({sql}) > 0) as log_{name}" for name, sql in HISTOGRAMS.items() if name != "queueing"
    )
    found = frame(
        scan,
        f"select {on.bucket_sql('end_time')}::INTEGER as bucket, {sums}, {logs} "
        "from flow_with_losses group by 1 order by 1",
    )
    whole = pl.DataFrame({"bucket": range(on.count)}, schema={"bucket": pl.Int32})
    return whole.join(found, on="bucket", how="left")


def _bytes(scan: Scan, on: Grid) -> NDArray[np.float64]:
    """Bytes of each bucket; a row's are spread evenly over the time that it tells of.

    A row that lies in several buckets adds a rate from its start on and takes it away at its end: the bytes before a
    moment are a sum over the starts less one over the ends, so that rows need not be cut into buckets.
    """
    found = frame(
        scan,
        f"with placed as (select bytes, epoch_us(start_time) - {on.start} as s, epoch_us(end_time) - {on.start} as e "
        "from flow_overlapping), "
        f"binned as (select *, s // {on.width} as first, greatest(s, e - 1) // {on.width} as last from placed) "
        "select greatest(first, -1)::INTEGER as first, "
        f"least(last, {on.count})::INTEGER as last, sum(bytes)::DOUBLE as bytes, "
        "sum(case when first < last then bytes / (e - s) end)::DOUBLE as rate, "
        "sum(case when first < last then bytes / (e - s) * s end)::DOUBLE as from_start, "
        "sum(case when first < last then bytes / (e - s) * e end)::DOUBLE as from_end "
        f"from binned where last >= 0 and first < {on.count} group by 1, 2",
    )
    within = found.filter((pl.col("first") == pl.col("last")) & pl.col("rate").is_null())
    across = found.filter(pl.col("rate").is_not_null())
    counted = np.bincount(within["last"].to_numpy(), within["bytes"].to_numpy(), on.count)
    inside = np.asarray(counted[: on.count], dtype=np.float64)
    moments = np.arange(on.count + 1) * float(on.width)

    def before(bucket: str, moment: str) -> NDArray[np.float64]:
        """Sum of rate * (edge - moment) over the rows whose moment lies before each edge."""
        place = across[bucket].to_numpy() + 1
        rate, shift = (np.bincount(place, across[name].to_numpy(), on.count + 2) for name in ("rate", moment))
        return np.cumsum(rate)[: on.count + 1] * moments - np.cumsum(shift)[: on.count + 1]

    spread: NDArray[np.float64] = np.diff(before("first", "from_start") - before("last", "from_end"))
    return inside + np.maximum(spread, 0.0)


def _gauges(scan: Scan, on: Grid) -> list[Series]:
    if not scan.has("host"):
        return []
    found = frame(
        scan,
        f'select {on.bucket_sql("time")}::INTEGER as bucket, resource, max(used / "limit") as share from host '
        "where \"limit\" > 0 and resource not like '%->%' group by 1, 2",
    ).filter(pl.col("bucket").is_between(0, on.count - 1))
    result = []
    for (resource,), part in found.group_by("resource"):
        values = np.full(on.count, np.nan)
        values[part["bucket"].to_numpy()] = part["share"].to_numpy()
        if np.nanmax(values) > 0.5:
            result.append(Series(f"host:{resource}", f"{resource} (share of its limit)", values, "", 1, 0.2, "share"))
    return sorted(result, key=lambda series: series.name)


def _events(scan: Scan, on: Grid) -> list[Series]:
    if not scan.has("events"):
        return []
    found = frame(
        scan,
        f"select {on.bucket_sql('time')}::INTEGER as bucket, kind, sum(count)::BIGINT as n from events group by 1, 2",
    ).filter(pl.col("bucket").is_between(0, on.count - 1))
    result = []
    for kind, title in EVENTS.items():
        part = found.filter(pl.col("kind") == kind)
        if part.is_empty():
            continue
        values = np.zeros(on.count)
        values[part["bucket"].to_numpy()] = part["n"].to_numpy()
        result.append(Series(f"event:{kind}", title, values / (on.width / 1e6), "", 1, 0.1, "/s"))
    return result


def _ratio(name: str, title: str, events: NDArray[np.float64], trials: NDArray[np.float64], least: float) -> Series:
    return Series(name, title, _per(events, trials), "ratio", 1, least, "share", events, trials)


def _per(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ratio, NaN where too little happened to have one."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator >= LEAST_TRIALS, numerator / denominator, np.nan)


def _exponential(table: pl.DataFrame, name: str) -> NDArray[np.float64]:
    return np.exp(table[name].cast(pl.Float64).fill_null(np.nan).to_numpy())
