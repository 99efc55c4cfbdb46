"""Flows of the busiest part of a trace -> its services, and the ports that clients hold towards one server.

One pass groups what is known of both ends of TCP flows; the tables are made from these groups. Only the ports of the
busiest pairs need the rows again, by minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze.capacity.gauges import by_day
from analyze.capacity.traffic import COARSE_BIN, Extent
from analyze.compare.measure import FAILED, OPENED
from analyze.frames import frame
from analyze.statistics.capacity import EPHEMERAL_PORTS, TIME_WAIT_SECONDS
from analyze.statistics.outlook import Resource

if TYPE_CHECKING:
    from analyze.capacity.traffic import Traffic
    from analyze.scan import Scan

TOP_SERVICES = 10
TOP_PAIRS = 5
ROUND_TRIP = "rtt_us is not null and rtt_min_us is not null"
_HOUR = 3_600
_PAIR = ["client_address", "server_address", "server_port"]


def parties(scan: Scan, part: Extent) -> pl.DataFrame:
    """TCP flows of a part of the trace by host, server, port, role and, of outgoing ones, client.

    Columns: host, server_name, server_address, server_port, role, client_address, opened and attempts (connections;
    failed ones are among the attempts), lived (s), bytes, measured (the bytes of rows with a round trip; null: none),
    server (name or else address) and service (server and port).
    """
    return frame(
        scan,
        # By what the rows hold, named afterwards: text made for every row would take twice the time.
        "with counted as (select host, server_name, server_address, server_port, role, "
        "case when role in ('client', 'both') then client_address end as client_address, "
        f"tally({OPENED}, weight) as opened, tally({OPENED} or {FAILED}, weight) as attempts, "
        "sum(scaled(coalesce(flow_duration_us, epoch_us(end_time) - epoch_us(start_time)), weight))::DOUBLE / 1e6 "
        f"as lived, sum(bytes)::DOUBLE as bytes, (sum(bytes) filter ({ROUND_TRIP}))::DOUBLE as measured "
        f"from flow where transport = 'tcp' and {part.holds('end_time')} group by all) "
        "select *, coalesce(server_name, server_address) as server, endpoint(server, server_port) as service "
        "from counted order by all",
    )


def services(parties: pl.DataFrame, part: Extent) -> pl.DataFrame:
    """Per service: connections per second, mean life, mean number open (Little's law), bytes per second; the ten
    with the most open connections.
    """
    opened, lived = pl.col("opened"), pl.col("lived")
    return (
        parties.group_by("service", pl.col("role").fill_null("(unknown)"))
        .agg(pl.col("opened", "lived", "bytes").sum())
        .select(
            "service",
            "role",
            connections_per_second=opened / part.seconds,
            mean_life=pl.when(opened > 0).then(lived / opened),
            mean_open=lived / part.seconds,
            bytes_per_second=pl.col("bytes") / part.seconds,
        )
        .sort("mean_open", "service", "role", descending=[True, False, False])
        .head(TOP_SERVICES)
    )


def mean_open(table: pl.DataFrame) -> tuple[float, float]:
    """Connections per second and mean life in seconds over all services."""
    rate = float(table["connections_per_second"].sum() or 0)
    return rate, float(table["mean_open"].sum() or 0) / rate if rate else 0.0


def loaded(parties: pl.DataFrame) -> pl.DataFrame:
    """server, server_port and name of the services with the most bytes among those whose round trips are known."""
    return (
        parties.drop_nulls("measured")
        .group_by("server", "server_port", pl.col("service").alias("name"))
        .agg(pl.col("measured").sum())
        .sort("measured", "server", "server_port", descending=[True, False, False])
        .head(TOP_SERVICES)
        .drop("measured")
    )


def port_use(scan: Scan, traffic: Traffic, parties: pl.DataFrame) -> list[Resource]:
    """Ports that this host's busiest clients hold towards one server: connections opened within TIME_WAIT's minute."""
    pairs = (
        parties.filter((pl.col("attempts") > 0) & pl.col("role").is_in(["client", "both"]))
        .group_by("host", *_PAIR)
        .agg(pl.col("attempts").sum())
        .sort("attempts", *_PAIR, descending=[True, False, False, False])
        .head(TOP_PAIRS)
    )
    if pairs.is_empty():
        return []
    scan.connection.register("busy_pairs", pairs.select(_PAIR).to_arrow())
    try:
        minutes = frame(
            scan,
            "with counted as (select flow.host, client_address, server_address, server_port, "
            f"epoch_us(flow_start_time) // {int(TIME_WAIT_SECONDS * 1e6)} as minute, tally(true, weight) as opened "
            "from flow join busy_pairs using (client_address, server_address, server_port) "
            f"where transport = 'tcp' and ({OPENED} or {FAILED}) and flow_start_time is not null "
            f"and {_busy_hours(traffic)} group by all) "
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


def _busy_hours(traffic: Traffic) -> str:
    """SQL that says whether a row ends in an hour that can hold a day's peak of ports.

    Of a long trace these are, for each host and day, the hour of the minute in which most connections were opened, and
    every hour with a minute in which half the ports' number were: no pair can hold more elsewhere.
    """
    if traffic.busiest.whole:
        return "true"
    minutes = traffic.bins.filter(pl.col("opened") > 0).with_columns(
        day=pl.col("bin") // 1440, hour=pl.col("bin") // (_HOUR // COARSE_BIN)
    )
    peaks = minutes.sort("opened", "bin").group_by("host", "day").agg(pl.col("hour").last())
    full = minutes.filter(pl.col("opened") >= EPHEMERAL_PORTS / 2)
    hours = sorted({*peaks["hour"].to_list(), *full["hour"].to_list()})
    ranges: list[list[int]] = []
    for hour in hours:
        if ranges and ranges[-1][1] == hour:
            ranges[-1][1] = hour + 1
        else:
            ranges.append([hour, hour + 1])
    held = [Extent(first * _HOUR * 1_000_000, end * _HOUR * 1_000_000).holds("end_time") for first, end in ranges]
    return f"({' or '.join(held)})" if held else "false"
