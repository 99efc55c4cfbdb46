"""Time buckets of a trace -> one series a metric. All of the heavy work is SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.compare.measure import HISTOGRAMS, told_sql
from analyze.frames import frame
from analyze.statistics.timeline import EITHER, Series

if TYPE_CHECKING:
    from analyze.scan import Scan

MOST_BUCKETS = 720
FINEST_SECONDS = 1.0
LEAST_TRIALS = 5
LATENCY_FLOOR_US = 200.0  # on a fast network a busy processor shows as tens of microseconds

SUMMED = ("bytes", "packets", "retransmits")
MEANS = ("connect_latency", "rtt")
# Conditions that rows are counted by, beside those of a comparison.
MORE = {
    "dns": "server_port = 53",
    "dns_answered": "server_port = 53 and server_bytes > 0",
    "completed": "tcp_close = 'fin'",
    "one_way": "tcp_close = 'fin' and least(client_packets, server_packets) = 0 "
    "and greatest(client_packets, server_packets) > 2",
    "open": "flow_end_reason = 'active' and transport = 'tcp'",
    "silent": "flow_end_reason = 'active' and transport = 'tcp' and bytes = 0",
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
    values = {name: table[name].cast(pl.Float64).fill_null(0.0).to_numpy() for name in (*told_sql(), *SUMMED, *MORE)}
    ended = values["closed"] + values["connect_failures"]
    result = [
        Series("flow_rate", "new connections per second", values["flows"] / seconds, "log", EITHER, 1.0, "/s"),
        Series("byte_rate", "bytes per second",
               _spread(scan, on, values["bytes"]) / seconds, "log", EITHER, 2.0, "byte/s"),
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
    counts = {name: f"tally({sql}, weight)" for name, sql in told_sql().items()}
    counts |= {name: f"count_if({sql})::BIGINT" for name, sql in MORE.items()}
    counts |= {name: f"sum({name})::BIGINT" for name in SUMMED}
    counts |= {f"log_{name}": f"avg(ln({HISTOGRAMS[name]})) filter (({HISTOGRAMS[name]}) > 0)" for name in MEANS}
    read = ", ".join(f"{sql} as {name}" for name, sql in counts.items())
    found = frame(
        scan,
        f"select {on.bucket_sql('end_time')}::INTEGER as bucket, {read} from flow_with_losses group by 1 order by 1",
    )
    whole = pl.DataFrame({"bucket": range(on.count)}, schema={"bucket": pl.Int32})
    return whole.join(found, on="bucket", how="left")


def _spread(scan: Scan, on: Grid, ended: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bytes of each bucket; a row's are spread evenly over the time that it tells of. `ended` are the bytes of the rows
    that end in each bucket: most rows lie in one, and only the others are read.

    A row that lies in several buckets adds a rate from its start on and takes it away at its end: the bytes before a
    moment are a sum over the starts less one over the ends, so that rows need not be cut into buckets.
    """
    first, last = (on.bucket_sql(column) for column in ("start_time", "end_time"))
    found = frame(
        scan,
        f"select epoch_us(start_time) - {on.start} as s, epoch_us(end_time) - {on.start} as e, bytes::BIGINT as bytes, "
        f"in_window(end_time) as ended from flow_overlapping where {first} <> {last} or not in_window(end_time)",
    )
    start, end, moved = (found[name].to_numpy() for name in ("s", "e", "bytes"))

    def place(moment: NDArray[np.int64]) -> NDArray[np.int64]:
        """Its bucket; one more at each end takes what lies outside."""
        return np.clip(moment // on.width, -1, on.count) + 1

    def total(places: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(places, values, on.count + 2), dtype=np.float64)

    since, until = place(start), place(np.maximum(start, end - 1))
    across = since != until
    whole = total(until, np.where(across, 0, moved)) - total(place(end), np.where(found["ended"].to_numpy(), moved, 0))
    rate = np.divide(moved, end - start, out=np.zeros(len(moved)), where=across)
    edges = np.arange(on.count + 1) * float(on.width)

    def before(places: NDArray[np.int64], moment: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of rate * (edge - moment) over the rows whose moment lies before each edge."""
        rates, moments = total(places, rate), total(places, rate * moment)
        return np.asarray(np.cumsum(rates)[:-1] * edges - np.cumsum(moments)[:-1])

    spread = np.diff(before(since, start) - before(until, end))
    return ended + whole[1:-1] + np.maximum(spread, 0.0)


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
