"""Flows alone -> rates, bursts and what is billed. Rows of long flows are spread over no bins: a row counts where it
ends, so bins shorter than the active timeout overstate the bursts of long flows.

One pass over the whole trace makes the bins. What is asked of services and pairs (`services.py`, `queueing.py`) needs
wide groups: of a long trace it is asked of the busiest day alone, which is what a capacity has to carry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze import context
from analyze.capacity.gauges import by_day
from analyze.compare.measure import OPENED
from analyze.frames import frame
from analyze.statistics.capacity import BILLING_INTERVAL_SECONDS, billing_95th, burst_ratios
from analyze.statistics.outlook import Resource

if TYPE_CHECKING:
    from analyze.scan import Scan

FINE_SECONDS = 2 * 86_400  # up to this length bins are of one second everywhere
COARSE_BIN = 60
DAY_SECONDS = 86_400
_BILLING_US = int(BILLING_INTERVAL_SECONDS * 1e6)


@dataclass(frozen=True)
class Extent:
    """When the trace, or a part of it, has flows: microseconds since 1970, UTC. `whole`: nothing lies outside of it."""

    start: int
    end: int
    whole: bool = False

    @property
    def seconds(self) -> float:
        """Length, at least a second."""
        return max((self.end - self.start) / 1e6, 1.0)

    def holds(self, moment: str) -> str:
        """SQL that says whether a time lies in it; files and row groups that do not are not read."""
        return (
            "true"
            if self.whole
            else f"({moment} >= make_timestamptz({self.start}) and {moment} < make_timestamptz({self.end}))"
        )


@dataclass(frozen=True)
class Traffic:
    """`bins`: host, bin (seconds since 1970 / `width`), received, sent (bytes), opened; `width` in seconds.
    `recorded`: host and every five-minute interval in which its recorder ran, whether or not there was traffic.
    `busiest`: the part of the extent that services and pairs are asked of.
    """

    extent: Extent
    busiest: Extent
    width: int
    bins: pl.DataFrame
    recorded: pl.DataFrame

    def intervals_of(self, host: str) -> pl.Series:
        """The recorded intervals of a host."""
        return self.recorded.filter(pl.col("host") == host)["interval"]


def load(scan: Scan) -> Traffic | None:
    """Bins of the whole trace; None without a flow."""
    since, until = context.recorded(scan)
    width = 1 if since is None or until is None or until - since <= FINE_SECONDS * 1_000_000 else COARSE_BIN
    # As the host sees it: a server receives what clients send. A gateway's (role none) directions are the flow's own.
    bins = frame(
        scan,
        f"select coalesce(host, '(unknown)') as host, epoch_us(end_time) // {width * 1_000_000} as bin, "
        "sum(case when role = 'client' then server_bytes else client_bytes end)::BIGINT as received, "
        "sum(case when role = 'client' then client_bytes else server_bytes end)::BIGINT as sent, "
        f"tally({OPENED}, weight) as opened from flow group by 1, 2 order by 1, 2",
    )
    if bins.is_empty():
        return None
    extent = _extent(scan, bins["bin"], width * 1_000_000)
    busiest = extent if width == 1 else _busiest_day(bins, extent)
    return Traffic(extent, busiest, width, bins, _recorded(scan))


def _extent(scan: Scan, bins: pl.Series, width: int) -> Extent:
    """From the first row's end to the last one's: only the first and the last bin are read for it."""
    first, last = int(bins.min()), int(bins.max())  # type: ignore[arg-type]
    edges = [Extent(edge * width, (edge + 1) * width) for edge in (first, last)]
    start, end = scan.fetch(
        "select epoch_us(min(end_time)), epoch_us(max(end_time)) from flow "
        f"where {' or '.join(edge.holds('end_time') for edge in edges)}"
    )[0]
    return Extent(start, end + 1, whole=True)


def _busiest_day(bins: pl.DataFrame, extent: Extent) -> Extent:
    """The UTC day with the most bytes, as far as the trace holds it."""
    day = pl.col("bin") // (DAY_SECONDS // COARSE_BIN)
    days = bins.group_by(day.alias("day")).agg((pl.col("received") + pl.col("sent")).sum().alias("bytes"))
    start = int(days.sort("bytes", "day").row(-1, named=True)["day"]) * DAY_SECONDS * 1_000_000
    return Extent(max(start, extent.start), min(start + DAY_SECONDS * 1_000_000, extent.end))


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


def bursts(traffic: Traffic) -> pl.DataFrame:
    """Peak over mean by bin size and host, for bytes and for new connections."""
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
