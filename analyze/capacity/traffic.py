"""Flows alone -> rates, concurrency, bursts, port use and what is billed. Rows of long flows are spread over no bins:
a row counts where it ends, so bins shorter than the active timeout overstate the bursts of long flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze.capacity.gauges import by_day
from analyze.compare.measure import FAILED, OPENED
from analyze.frames import frame
from analyze.statistics.capacity import (
    BILLING_INTERVAL_SECONDS,
    EPHEMERAL_PORTS,
    TIME_WAIT_SECONDS,
    billing_95th,
    burst_ratios,
)
from analyze.statistics.outlook import Resource

if TYPE_CHECKING:
    from analyze.scan import Scan

FINE_SECONDS = 2 * 86_400  # up to this length bins are of one second everywhere
COARSE_BIN = 60
TOP_SERVICES = 10
TOP_PAIRS = 5
_BILLING_US = int(BILLING_INTERVAL_SECONDS * 1e6)


@dataclass(frozen=True)
class Extent:
    """When the trace has flows: microseconds since 1970, UTC."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """Length, at least a second."""
        return max((self.end - self.start) / 1e6, 1.0)


@dataclass(frozen=True)
class Traffic:
    """`bins`: host, bin (seconds since 1970 / `width`), received, sent (bytes), opened; `width` in seconds.
    `recorded`: host and every five-minute interval in which its recorder ran, whether or not there was traffic.
    """

    extent: Extent
    width: int
    bins: pl.DataFrame
    recorded: pl.DataFrame

    def intervals_of(self, host: str) -> pl.Series:
        """The recorded intervals of a host."""
        return self.recorded.filter(pl.col("host") == host)["interval"]


def load(scan: Scan) -> Traffic | None:
    """Bins of the whole trace; None without a flow."""
    first, last = scan.fetch("select epoch_us(min(end_time)), epoch_us(max(end_time)) from flow")[0]
    if first is None:
        return None
    extent = Extent(first, last + 1)
    width = 1 if extent.seconds <= FINE_SECONDS else COARSE_BIN
    # As the host sees it: a server receives what clients send. A gateway's (role none) directions are the flow's own.
    bins = frame(
        scan,
        f"select coalesce(host, '(unknown)') as host, epoch_us(end_time) // {width * 1_000_000} as bin, "
        "sum(case when role = 'client' then server_bytes else client_bytes end)::BIGINT as received, "
        "sum(case when role = 'client' then client_bytes else server_bytes end)::BIGINT as sent, "
        f"tally({OPENED}, weight) as opened from flow group by 1, 2 order by 1, 2",
    )
    return Traffic(extent, width, bins, _recorded(scan))


def _recorded(scan: Scan) -> pl.DataFrame:
    """No traffic and no recording are different: the health table tells them apart."""
    if not scan.has("health"):
        return pl.DataFrame(schema={"host": pl.String, "interval": pl.Int64})
    return frame(
        scan,
        "select distinct coalesce(host, '(unknown)') as host, "
        f"unnest(range(epoch_us(start_time) // {_BILLING_US}, (epoch_us(end_time) - 1) // {_BILLING_US} + 1)) "
        "as interval "
        "from health where kind <> 'gap' and end_time > start_time",
    )


def resources(traffic: Traffic, link_speed: float | None) -> list[Resource]:
    """Bytes per second of each host and direction, by daily peak of five minutes, against a link's speed (bytes/s)."""
    result = []
    for (host,), part in traffic.bins.group_by("host", maintain_order=True):
        for direction in ("received", "sent"):
            rates = _rates(part, direction, traffic.width, traffic.intervals_of(str(host)))
            daily = rates.group_by("day", maintain_order=True).agg(pl.col("rate").max())
            limits = np.full(len(by_day(daily, "rate")), link_speed or np.nan)
            result.append(
                Resource(
                    str(host), f"bytes {direction} (5-minute mean)", "byte/s", float(rates["rate"][-1]),
                    float(rates["rate"].max()), link_speed or np.nan, by_day(daily, "rate"), limits, "flows",  # type: ignore[arg-type]
                )
            )  # fmt: skip
    return result


def port_use(scan: Scan) -> list[Resource]:
    """Ports that this host's busiest clients hold towards one server: connections opened within TIME_WAIT's minute."""
    pairs = frame(
        scan,
        "select host, client_address, server_address, server_port, tally(true, weight) as n from flow "
        f"where role in ('client', 'both') and transport = 'tcp' and ({OPENED} or {FAILED}) "
        f"group by all order by n desc, client_address, server_address, server_port limit {TOP_PAIRS}",
    )
    if pairs.is_empty():
        return []
    scan.connection.register("busy_pairs", pairs.drop("n").to_arrow())
    try:
        minutes = frame(
            scan,
            "with counted as (select flow.host, client_address, server_address, server_port, "
            f"epoch_us(flow_start_time) // {int(TIME_WAIT_SECONDS * 1e6)} as minute, tally(true, weight) as opened "
            "from flow join busy_pairs using (client_address, server_address, server_port) "
            f"where transport = 'tcp' and ({OPENED} or {FAILED}) and flow_start_time is not null group by all) "
            "select coalesce(host, '(unknown)') as host, "
            "client_address || ' -> ' || endpoint(server_address, server_port) as pair, minute, opened "
            "from counted order by 1, 2, 3",
        )
    finally:
        scan.connection.unregister("busy_pairs")
    result = []
    for (host, pair), part in minutes.group_by("host", "pair", maintain_order=True):
        daily = part.group_by((pl.col("minute") // 1440).alias("day"), maintain_order=True).agg(pl.col("opened").max())
        peaks = by_day(daily, "opened")
        result.append(
            Resource(
                str(host), f"ports {pair} (opened in 60 s)", "port", float(part["opened"][-1]),
                float(part["opened"].max()), float(EPHEMERAL_PORTS), peaks,  # type: ignore[arg-type]
                np.full(len(peaks), float(EPHEMERAL_PORTS)), "flows",
            )
        )  # fmt: skip
    return result


def services(scan: Scan, extent: Extent) -> pl.DataFrame:
    """Per service: connections per second, mean life, mean number open (Little's law), bytes per second; the ten
    with the most open connections.
    """
    seconds = extent.seconds
    return frame(
        scan,
        # Grouped by what the rows hold, named afterwards: text made for every row would take twice the time.
        f"with counted as (select server, server_port, role, tally({OPENED}, weight) as opened, "
        "sum(scaled(coalesce(flow_duration_us, epoch_us(end_time) - epoch_us(start_time)), weight)) as lived, "
        "sum(bytes) as bytes from flow where transport = 'tcp' group by all), "
        "summed as (select endpoint(server, server_port) as service, coalesce(role, '(unknown)') as role, "
        "sum(opened) as opened, sum(lived) / 1e6 as lived, sum(bytes)::DOUBLE as bytes from counted group by 1, 2) "
        f"select service, role, opened / {seconds!r} as connections_per_second, "
        "lived / nullif(opened, 0) as mean_life, "
        f"lived / {seconds!r} as mean_open, bytes / {seconds!r} as bytes_per_second from summed "
        f"order by mean_open desc, service, role limit {TOP_SERVICES}",
    )


def bursts(traffic: Traffic) -> pl.DataFrame:
    """Peak over mean by bin size and host, for bytes and for new connections; over the busiest day of a long trace."""
    rows = []
    for (host,), part in traffic.bins.group_by("host", maintain_order=True):
        for what, column in (("bytes received", "received"), ("bytes sent", "sent"), ("new connections", "opened")):
            dense = _dense(part, column)
            ratios = burst_ratios(dense, tuple(size // traffic.width for size in (1, 10, 60, 300, 3600)
                                               if size >= traffic.width))  # fmt: skip
            rows += [(str(host), what, size * traffic.width, ratio) for size, ratio in ratios.items()]
    return pl.DataFrame(
        rows,
        schema={"host": pl.String, "what": pl.String, "bin_seconds": pl.Int64, "peak_over_mean": pl.Float64},
        orient="row",
    )


def billing(traffic: Traffic) -> pl.DataFrame:
    """Billed rate per host and calendar month: 95th percentile of five-minute means, the higher direction, bit/s."""
    rows = []
    for (host,), part in traffic.bins.group_by("host", maintain_order=True):
        intervals = traffic.intervals_of(str(host))
        sides = {side: _rates(part, side, traffic.width, intervals) for side in ("received", "sent")}
        for (month,), own in sides["received"].group_by("month", maintain_order=True):
            other = sides["sent"].filter(pl.col("month") == month)
            billed = 8 * billing_95th(own["rate"].to_numpy(), other["rate"].to_numpy())
            rows.append((str(host), str(month), billed, own.height, round(own.height / (30 * 288), 3)))
    schema = {
        "host": pl.String, "month": pl.String, "billed_bits_per_second": pl.Float64, "samples": pl.Int64,
        "share_of_month": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def mean_open(table: pl.DataFrame) -> tuple[float, float]:
    """Connections per second and mean life in seconds over all services."""
    rate = float(table["connections_per_second"].sum() or 0)
    return rate, float(table["mean_open"].sum() or 0) / rate if rate else 0.0


def _rates(part: pl.DataFrame, column: str, width: int, recorded: pl.Series) -> pl.DataFrame:
    """Mean rate of every recorded five-minute interval (bytes/s): columns interval, rate, day, month."""
    seconds = int(BILLING_INTERVAL_SECONDS)
    summed = part.group_by((pl.col("bin") // (seconds // width)).alias("interval")).agg(
        pl.col(column).sum().alias("total")
    )
    whole = pl.concat([summed["interval"], recorded.cast(pl.Int64)]).unique().sort().to_frame()
    return whole.join(summed, on="interval", how="left").with_columns(
        rate=pl.col("total").fill_null(0) / seconds,
        day=pl.col("interval") * seconds // 86_400,
        month=pl.from_epoch(pl.col("interval") * seconds, time_unit="s").dt.strftime("%Y-%m"),
    )


def _dense(part: pl.DataFrame, column: str) -> np.ndarray:
    bins = part["bin"].to_numpy()
    values = np.zeros(int(bins[-1] - bins[0]) + 1)
    values[bins - bins[0]] = part[column].to_numpy()
    return values
