"""Pairs that talk like clockwork."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze.compare.measure import OPENED
from analyze.frames import frame
from analyze.statistics import beacons

if TYPE_CHECKING:
    from analyze.scan import Scan

MOST_PAIRS = 5000
FASTEST_SECONDS = 5.0  # what talks more often is a stream, not a beacon
BEST_WITHOUT_DURATION = 0.75
SHOWN = 20


def find(scan: Scan, start: int, end: int, hosts: int, least: float) -> pl.DataFrame:
    """Pairs (client, service) whose score is at least `least`, the rarest and most regular first.

    `start` and `end` of the trace in microseconds; `hosts` the number of clients, for how common a peer is.
    """
    seconds = max((end - start) / 1e6, 1.0)
    # Without six active hours the score of the duration is 0, and the mean of the four at most .75.
    hours = beacons.MINIMUM_ACTIVE_HOURS if least > BEST_WITHOUT_DURATION else 1
    if seconds < (hours - 1) * beacons.HOUR:
        return pl.DataFrame()
    pairs = frame(
        scan,
        "with candidates as materialized (select client_address, server, server_port from flow "
        f"where {OPENED} group by all having count(*) between {beacons.MINIMUM_UNIQUE_CONTACTS} "
        f"and {seconds / FASTEST_SECONDS!r} "
        f"and count(distinct epoch_us(flow_start_time) // 3600000000) >= {hours} "
        f"order by count(*) desc, 1, 2, 3 limit {MOST_PAIRS}) "
        "select client_address as client, endpoint(server, server_port) as service, "
        "list(epoch_us(flow_start_time) / 1e6) as times, list(coalesce(client_bytes, 0)) as sizes "
        f"from flow join candidates using (client_address, server, server_port) where {OPENED} "
        "group by 1, 2 order by 1, 2",
    )
    if pairs.is_empty():
        return pl.DataFrame()
    common = dict(
        frame(
            scan,
            "select endpoint(server, server_port) as service, count(distinct client_address) as clients "
            "from flow group by 1",
        ).iter_rows()
    )
    rows = []
    for client, service, times, sizes in pairs.iter_rows():
        found = beacons.score(times, sizes, start / 1e6, end / 1e6)
        if found is None or found.score < least:
            continue
        prevalence = common.get(service, 1) / max(hosts, 1)
        # With a handful of hosts everything is common: rarity says something from fifty on.
        ranked = beacons.rarity(found.score, prevalence) if hosts >= 50 else found.score
        moments = np.array(times)
        rows.append(
            {
                "kind": "beacon",
                "source": client,
                "target": service,
                "score": ranked,
                "evidence": f"every {found.interval:.0f} s, {found.contacts} contacts, "
                f"score {found.score:.2f} ({found.band}): "
                f"timing {found.timing:.2f}, size {found.size:.2f}, duration {found.duration:.2f}, "
                f"hours {found.histogram:.2f}",
                "prevalence": prevalence,
                "first": float(moments.min()),
                "last": float(moments.max()),
            }
        )
    if not rows:
        return pl.DataFrame()
    return (
        pl.DataFrame(rows)
        .with_columns(
            pl.from_epoch((pl.col(name) * 1e6).cast(pl.Int64), time_unit="us").dt.replace_time_zone("UTC").alias(name)
            for name in ("first", "last")
        )
        .sort(["score", "source", "target"], descending=[True, False, False])
        .head(SHOWN)
    )
