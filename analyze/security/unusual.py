"""What is new lately, and what is much against its own history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze.compare.measure import OPENED
from analyze.frames import frame
from analyze.statistics import anomalies

if TYPE_CHECKING:
    from analyze.scan import Scan

BINS = 48
MOST_SOURCES = 2000
SHOWN = 20
LEAST_FACTOR = 3.0  # surprising and small is not worth a look
LEAST_BYTES = 1_000_000


def new_peers(scan: Scan, recent: int, hosts: int) -> pl.DataFrame:
    """Services that a client first contacted after `recent` (microseconds), though it was there before.

    Only services that at most a tenth of the clients use, the rarest first; and not of clients to which new
    services are nothing new: by the second half of their history, two or more were to be expected.
    """
    half, last = scan.fetch(f"select (epoch_us(min(start_time)) + {recent}) // 2, epoch_us(max(end_time)) from flow")[0]
    expected = (last - recent) / max(recent - half, 1)
    found = frame(
        scan,
        "with pairs as materialized (select client_address as client, endpoint(server, server_port) as service, "
        "min(start_time) as first, max(end_time) as last, count(*) as n, sum(bytes)::BIGINT as bytes from flow "
        "group by 1, 2), known as (select client, min(first) as since, "
        f"count(*) filter (epoch_us(first) between {half} and {recent} - 1) * {expected!r} as expected "
        "from pairs group by 1), "
        "use as (select service, count(*) as clients from pairs group by 1) "
        "select client, service, pairs.first, pairs.last, n, bytes, clients from pairs join known using (client) "
        f"join use using (service) where pairs.first >= make_timestamptz({recent}) "
        f"and known.since < make_timestamptz({recent}) and clients <= greatest(1, {hosts} / 10) "
        "and expected < 2 "
        f"order by clients, bytes desc, client, service limit {SHOWN}",
    )
    if found.is_empty():
        return pl.DataFrame()
    return found.select(
        kind=pl.lit("new peer"),
        source="client",
        target="service",
        score=1.0 - pl.col("clients") / max(hosts, 1),
        evidence=pl.format("first contact in this trace, {} rows, {} bytes", "n", "bytes"),
        prevalence=pl.col("clients") / max(hosts, 1),
        first="first",
        last="last",
    )


def volumes(scan: Scan, start: int, end: int, recent: int, hosts: int) -> pl.DataFrame:
    """Clients whose bytes sent, or new connections, lately are far above their own history."""
    width = max((end - start) // BINS, 1)
    # The last bins are judged, those before are the history.
    cut = (recent - start) // width
    bins = frame(
        scan,
        f"select client_address as client, (epoch_us(end_time) - {start}) // {width} as bin, "
        f"sum(client_bytes)::BIGINT as sent, tally({OPENED}, weight) as opened from flow "
        "where client_address in (select client_address from flow group by 1 "
        f"order by sum(client_bytes) desc, 1 limit {MOST_SOURCES}) group by 1, 2",
    )
    rows = []
    for (client,), part in bins.group_by("client", maintain_order=True):
        index = part["bin"].to_numpy().clip(0, BINS - 1)
        for column, what, test in (
            ("sent", "bytes sent", anomalies.volume_p_value),
            ("opened", "new connections", anomalies.count_p_value),
        ):
            values = np.zeros(BINS)
            np.add.at(values, index, part[column].to_numpy())
            history, lately = values[:cut], values[cut:]
            if not len(lately) or np.count_nonzero(history) < anomalies.MINIMUM_HISTORY:
                continue
            most = float(lately.max())
            # The largest of several bins is more surprising by their number (Sidak).
            p_value = 1 - (1 - min(test(history, most), 1.0)) ** len(lately)
            usual = float(np.median(history))
            floor = LEAST_BYTES if column == "sent" else 20
            enough = most >= LEAST_FACTOR * max(usual, 1.0) and most >= floor
            place = int(cut + lately.argmax())
            rows.append(
                (str(client), what, most, usual, p_value, enough, start + place * width, start + (place + 1) * width)
            )
    schema = {
        "client": pl.String, "what": pl.String, "most": pl.Float64, "usual": pl.Float64, "p_value": pl.Float64,
        "enough": pl.Boolean, "first": pl.Int64, "last": pl.Int64,
    }  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    # The adjustment is over everything that was tested, not only over what is large.
    found = anomalies.surprising(table).filter(pl.col("enough")).head(SHOWN)
    if found.is_empty():
        return pl.DataFrame()
    moments = [
        pl.from_epoch(pl.col(name), time_unit="us").dt.replace_time_zone("UTC").alias(name)
        for name in ("first", "last")
    ]
    return found.with_columns(moments).select(
        kind=pl.lit("unusual volume"),
        source="client",
        target=pl.lit("its own history"),
        score=1.0 - pl.col("q_value"),
        evidence=pl.format(
            "{} {}, usually {} in so long a time (q = {})",
            pl.col("most").round(0).cast(pl.Int64), "what", pl.col("usual").round(0).cast(pl.Int64),
            pl.col("q_value").map_elements(lambda q: f"{q:.2g}", return_dtype=pl.String),
        ),
        prevalence=pl.lit(found["client"].n_unique() / max(hosts, 1)),
        first="first",
        last="last",
    )  # fmt: skip
