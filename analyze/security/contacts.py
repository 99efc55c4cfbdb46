"""First contacts, and what they show: sources whose contacts fail, and sources that touch many hosts or ports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from analyze.frames import frame
from analyze.statistics.scans import (
    HOSTS_IN_WINDOW,
    PORTS_IN_WINDOW,
    fan_out,
    threshold_random_walk,
)

if TYPE_CHECKING:
    from analyze.scan import Scan

# A contact that came to nothing: no connection, or none of the other side's bytes before its reset.
FAILED = (
    "coalesce(tcp_close = 'connect_failed' or (tcp_close in ('rst_received', 'timeout') "
    "and coalesce(server_bytes, 0) = 0), false)"
)
LEAST_FAILURES = 4  # fewer cannot pass the walk's upper bound
COLUMNS = ("kind", "source", "target", "score", "evidence", "prevalence", "first", "last")


def scans(scan: Scan, hosts: int) -> pl.DataFrame:
    """Sources that the threshold random walk flags, with what they tried."""
    contacts = frame(
        scan,
        "with first as materialized (select client_address as source, server_address as destination, "
        f'min(start_time) as "time", arg_min({FAILED}, start_time) as failed from flow '
        "where transport = 'tcp' group by 1, 2) "
        "select * from first where source in "
        f"(select source from first where failed group by 1 having count(*) >= {LEAST_FAILURES}) "
        # What fails for everybody is an outage: the sources of these destinations are needed to know.
        "or destination in (select destination from first where failed group by 1 having count(*) >= 3)",
    )
    if contacts.is_empty():
        return _none()
    flagged = threshold_random_walk(contacts).filter(pl.col("verdict") == "scanner")
    tried = contacts.group_by("source").agg(
        pl.len().alias("destinations"), pl.col("failed").sum().alias("all_failures"),
        pl.col("time").min().alias("first"), pl.col("time").max().alias("last"),
    )  # fmt: skip
    found = flagged.join(tried, on="source")
    return found.select(
        kind=pl.lit("failed contacts"),
        source="source",
        target=pl.format("{} destinations", "destinations"),
        score=pl.col("likelihood_ratio"),
        evidence=pl.format(
            "{} of {} first contacts failed; likelihood ratio above 99 after {} of them",
            "all_failures", "destinations", "contacts",
        ),
        prevalence=pl.lit(found.height / max(hosts, 1)),
        first="first",
        last="last",
    )  # fmt: skip


def spread(scan: Scan, hosts: int) -> pl.DataFrame:
    """Sources that reached 25 hosts, or 15 ports of one host, within five minutes."""
    contacts = frame(
        scan,
        "with wide as (select client_address as source from flow group by 1 "
        f"having count(distinct server_address) >= {HOSTS_IN_WINDOW}), "
        "deep as (select distinct client_address as source from flow group by client_address, server_address "
        f"having count(distinct server_port) >= {PORTS_IN_WINDOW}) "
        "select client_address as source, server_address as destination, server_port as port, "
        "time_bucket(interval '10 seconds', start_time) as \"time\" from flow where client_address in "
        "(select source from wide union select source from deep) and server_port is not null group by all",
    )
    if contacts.is_empty():
        return _none()
    found = fan_out(contacts)
    return found.select(
        kind=pl.when(pl.col("ports") >= PORTS_IN_WINDOW).then(pl.lit("many ports")).otherwise(pl.lit("many hosts")),
        source="source",
        target=pl.when(pl.col("ports") >= PORTS_IN_WINDOW)
        .then(pl.format("{} ports of one host", "ports"))
        .otherwise(pl.format("{} hosts", "hosts")),
        score=pl.max_horizontal(pl.col("hosts") / HOSTS_IN_WINDOW, pl.col("ports") / PORTS_IN_WINDOW),
        evidence=pl.format("{} hosts and up to {} ports of one in five minutes", "hosts", "ports"),
        prevalence=pl.lit(found.height / max(hosts, 1)),
        first="window",
        last=pl.col("window") + pl.duration(minutes=5),
    )


def _none() -> pl.DataFrame:
    return pl.DataFrame()
