"""Where queueing begins: the load of links, hosts and services beside the queueing delay (sRTT - minRTT) of flows.

A row counts where it ends, as in `traffic`. Loads are the host's link gauges where it has them, else its flows' bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.capacity.services import ROUND_TRIP
from analyze.frames import frame
from analyze.result import Column
from analyze.statistics.capacity import Knee, knee
from netrec.text import format_duration, format_size

if TYPE_CHECKING:
    from analyze.capacity.traffic import Extent
    from analyze.scan import Scan

BINS = 300
LONGEST_BIN = 300
LEVEL = 0.01
LEAST_RISE_US = 200.0
COLUMNS = (
    Column("load", "DOUBLE", "bytes/s"), Column("highest", "DOUBLE", "bytes/s"), Column("limit", "DOUBLE", "bytes/s"),
    Column("share", "DOUBLE", "ratio"),
    Column("delay_at_bend", "DOUBLE", "us"), Column("delay_at_highest", "DOUBLE", "us"),
)  # fmt: skip
SCHEMA = {
    "what": pl.String, "host": pl.String, "load": pl.Float64, "highest": pl.Float64, "limit": pl.Float64,
    "share": pl.Float64, "delay_at_bend": pl.Float64, "delay_at_highest": pl.Float64, "p_value": pl.Float64,
    "bins": pl.Int64,
}  # fmt: skip


def knees(scan: Scan, part: Extent, services: pl.DataFrame, link_speed: float | None) -> pl.DataFrame:
    """One row for each link, host or service whose delay bends upwards with its load; the lowest load first.

    Of a part of the trace; `services` are the `services.loaded` of it.

    Loads in bytes/s, delays (means of a bin's flows) in microseconds, `share` of the limit (NaN: none is known).
    """
    width = int(min(max(math.ceil(part.seconds / BINS), 1), LONGEST_BIN))
    series = list(_series(scan, part, services, width, link_speed))
    rows = []
    for what, host, loads, delays, limit in series:
        top = float(loads.max())
        if top <= 0:
            continue
        # A link that is nearly idle queues nothing, whatever its flows wait for: loads are shares of a known limit.
        whole = limit if math.isfinite(limit) else top
        # Many series are tried: together they shall bend by accident once in a hundred traces.
        found = knee(loads / whole, delays, level=LEVEL / len(series))
        if found and (rise := _rise(found, loads / whole, delays)):
            load = found.utilisation * whole
            rows.append((what, host, load, top, limit, load / limit, *rise, found.p_value, len(loads)))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("load", "what", "host")


def sentence(table: pl.DataFrame) -> str | None:
    """For example: Queueing begins at 61 MiB/s (60% of the limit) for link:eth0:sent on gw-3: above, delay ..."""
    if table.is_empty():
        return None
    first = table.row(0, named=True)
    share = f" ({first['share']:.0%} of its limit)" if math.isfinite(first["share"]) else ""
    more = f"; {table.height - 1} more bend" if table.height > 1 else ""
    return (
        f"queueing begins at {format_size(first['load'])}/s{share} for {first['what']} on {first['host']}: the delay "
        f"above the least round trip is {format_duration(first['delay_at_bend'] / 1e6)} there and "
        f"{format_duration(first['delay_at_highest'] / 1e6)} at {format_size(first['highest'])}/s{more}"
    )


def _rise(found: Knee, loads: NDArray[np.float64], delays: NDArray[np.float64]) -> tuple[float, float] | None:
    """Fitted delay at the bend and at the highest load; None when the rise between them matters to nobody."""
    bent = found.slope_below * loads + (found.slope_above - found.slope_below) * np.maximum(
        loads - found.utilisation, 0
    )
    level = float(np.mean(delays - bent))
    at_bend = max(level + found.slope_below * found.utilisation, 0.0)
    at_top = at_bend + found.slope_above * float(loads.max() - found.utilisation)
    return (at_bend, at_top) if at_top - at_bend >= LEAST_RISE_US else None


def _series(
    scan: Scan, part: Extent, services: pl.DataFrame, width: int, link_speed: float | None
) -> Iterator[tuple[str, str, NDArray[np.float64], NDArray[np.float64], float]]:
    """What, host, loads (bytes/s) and delays (us) by bin in order of time, limit (NaN: unknown)."""
    if services.is_empty():
        return
    # By places in short lists, which are looked up once for every different text: a join takes half as long again.
    counted = frame(
        scan,
        "with counted as (select coalesce(host, '(unknown)') as host, "
        "case when server_name is null then list_position($servers, server_address) "
        "else list_position($servers, server_name) end as server, list_position($ports, server_port) as server_port, "
        f"epoch_us(end_time) // {width * 1_000_000} as bin, "
        "sum(case when role = 'client' then server_bytes else client_bytes end)::DOUBLE as received, "
        "sum(case when role = 'client' then client_bytes else server_bytes end)::DOUBLE as sent, "
        f"sum(greatest(rtt_us - rtt_min_us, 0) * weight) filter ({ROUND_TRIP})::DOUBLE as delay, "
        f"(sum(weight) filter ({ROUND_TRIP}))::DOUBLE as known "
        f"from flow where {part.holds('end_time')} group by all) "
        "select * replace ($servers[server] as server, $ports[server_port] as server_port) from counted order by all",
        {"servers": services["server"].unique().to_list(), "ports": services["server_port"].unique().to_list()},
    )
    bins = counted.join(services, on=["server", "server_port"], how="left", maintain_order="left")
    for (host, name), own in bins.drop_nulls("name").group_by("host", "name", maintain_order=True):
        own = own.sort("bin").with_columns(load=pl.col("received") + pl.col("sent"))
        yield str(name), str(host), *_pair(own, "load", width), math.nan
    gauges = _link_gauges(scan, part, width)
    sums = bins.group_by("host", "bin").agg(pl.col("received", "sent", "delay", "known").sum()).sort("host", "bin")
    for (host,), own in sums.group_by("host", maintain_order=True):
        links = gauges.filter(pl.col("host") == host)
        for (name,), readings in links.group_by("resource", maintain_order=True):
            joined = readings.join(own.select("bin", "delay", "known"), on="bin", how="inner").sort("bin")
            limit = readings["limit"].max()
            yield str(name), str(host), *_pair(joined, "used", 1), float(limit or link_speed or math.nan)  # type: ignore[arg-type]
        if links.is_empty():
            for direction in ("received", "sent"):
                yield f"bytes {direction}", str(host), *_pair(own, direction, width), link_speed or math.nan


def _pair(own: pl.DataFrame, column: str, seconds: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Load and mean delay of the bins that saw a round trip; one zero when none did."""
    seen = own.filter(pl.col("known") > 0)
    if seen.is_empty():
        return np.zeros(1), np.zeros(1)
    return seen[column].to_numpy() / seconds, (seen["delay"] / seen["known"]).to_numpy()


def _link_gauges(scan: Scan, part: Extent, width: int) -> pl.DataFrame:
    """Mean use of every link and direction by bin (bytes/s)."""
    if not scan.has("host"):
        return pl.DataFrame(schema={"host": pl.String, "resource": pl.String})
    held = part.holds('"time"')
    return frame(
        scan,
        "select coalesce(host, '(unknown)') as host, resource, "
        f'epoch_us("time") // {width * 1_000_000} as bin, avg(used) as used, max("limit") as "limit" '
        f"from host where resource like 'link:%' and {held} group by 1, 2, 3 order by 1, 2, 3",
    )
