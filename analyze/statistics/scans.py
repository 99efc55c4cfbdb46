"""Scans: sources whose first contacts fail, and sources that touch many hosts or ports in a short time.

Threshold random walk on first contacts (Jung, Paxson, Berger, Balakrishnan 2004, with the parameters of Zeek's
policy): a failure multiplies a source's likelihood ratio by (1 - theta1)/(1 - theta0) = 4, a success by
theta1/theta0 = 1/4; flagged at P_D/P_F = 99, cleared at (1 - P_D)/(1 - P_F) = 0.0101. In an outage ordinary
clients fail too: destinations that fail for most of their sources are left out.
"""

from __future__ import annotations

import math

import polars as pl

THETA_BENIGN, THETA_SCANNER = 0.8, 0.2
DETECTION, FALSE_ALARM = 0.99, 0.01
UPPER = DETECTION / FALSE_ALARM
LOWER = (1 - DETECTION) / (1 - FALSE_ALARM)
FAILURE_FACTOR = (1 - THETA_SCANNER) / (1 - THETA_BENIGN)
SUCCESS_FACTOR = THETA_SCANNER / THETA_BENIGN
HOSTS_IN_WINDOW, PORTS_IN_WINDOW, WINDOW_SECONDS = 25, 15, 300
OUTAGE_SHARE = 0.5
OUTAGE_SOURCES = 3


def leave_out_outages(contacts: pl.DataFrame) -> pl.DataFrame:
    """First contacts without the destinations that fail for most of at least three sources.

    `contacts`: one row per (source, destination) with `failed` (bool) of the first contact.
    """
    by_destination = contacts.group_by("destination").agg(
        pl.col("failed").mean().alias("failing"), pl.len().alias("sources")
    )
    out = by_destination.filter((pl.col("sources") >= OUTAGE_SOURCES) & (pl.col("failing") > OUTAGE_SHARE))
    return contacts.join(out.select("destination"), on="destination", how="anti")


def threshold_random_walk(contacts: pl.DataFrame) -> pl.DataFrame:
    """The walk of every source; `contacts` has columns source, destination, time, failed, in any order.

    Only the first contact of each (source, destination) counts. Returns per source: verdict ("scanner",
    "benign", "undecided"), contacts and failures until the decision (or the end), and the likelihood ratio then.
    """
    first = leave_out_outages(
        contacts.sort("time", maintain_order=True).unique(["source", "destination"], keep="first", maintain_order=True)
    )
    step = pl.when("failed").then(math.log(FAILURE_FACTOR)).otherwise(math.log(SUCCESS_FACTOR))
    walk = first.with_columns(
        walk=step.cum_sum().over("source"),
        contacts=pl.int_range(1, pl.len() + 1).over("source"),
        failures=pl.col("failed").cast(pl.Int64).cum_sum().over("source"),
    )
    decided = (pl.col("walk") > math.log(UPPER)) | (pl.col("walk") < math.log(LOWER))
    # The first decision of a source, else its last contact.
    ends = pl.concat(
        [
            walk.filter(decided).unique("source", keep="first", maintain_order=True),
            walk.unique("source", keep="last", maintain_order=True),
        ]
    ).unique("source", keep="first", maintain_order=True)
    return ends.select(
        "source",
        verdict=pl.when(pl.col("walk") > math.log(UPPER))
        .then(pl.lit("scanner"))
        .when(pl.col("walk") < math.log(LOWER))
        .then(pl.lit("benign"))
        .otherwise(pl.lit("undecided")),
        contacts="contacts",
        failures="failures",
        likelihood_ratio=pl.col("walk").exp(),
    ).sort("source")


def fan_out(contacts: pl.DataFrame) -> pl.DataFrame:
    """Sources that reached 25 destinations, or 15 ports of one destination, within five minutes.

    `contacts`: columns source, destination, port, time (datetime). Windows are aligned to five minutes and
    also tried half a window later, so that a burst across an edge is not missed. Returns per source: hosts
    and ports, the most in any window, and when.
    """
    half = WINDOW_SECONDS // 2
    found = []
    for offset in (0, half):
        windowed = contacts.with_columns(
            window=(pl.col("time") - pl.duration(seconds=offset)).dt.truncate(f"{WINDOW_SECONDS}s")
            + pl.duration(seconds=offset)
        )
        hosts = windowed.group_by("source", "window").agg(pl.col("destination").n_unique().alias("hosts"))
        ports = (
            windowed.group_by("source", "destination", "window")
            .agg(pl.col("port").n_unique().alias("ports"))
            .group_by("source", "window")
            .agg(pl.col("ports").max())
        )
        found.append(hosts.join(ports, on=["source", "window"]))
    return (
        pl.concat(found)
        .filter((pl.col("hosts") >= HOSTS_IN_WINDOW) | (pl.col("ports") >= PORTS_IN_WINDOW))
        .sort(["source", "hosts", "ports", "window"], descending=[False, True, True, False])
        .group_by("source", maintain_order=True)
        .agg(pl.col("hosts").max(), pl.col("ports").max(), pl.col("window").first())
    )
