"""One window of traffic -> the small frames that a comparison rests on. The heavy part.

The window is cut into time buckets (about 240, at least a second long) and eight batches of them. SQL makes narrow
rows, which `cells` counts as they come; none is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import tzinfo
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze import counting, frames
from analyze.compare.cells import Cells, code_sql, value_sql
from analyze.compare.first_pass import HASH_SQL, KEYS, FirstPass
from analyze.compare.lookup import Lookup
from analyze.compare.pairing import HOUR_US, Pairing, applies, pair
from analyze.frames import frame
from analyze.statistics.quality import CaptureQuality

if TYPE_CHECKING:
    from analyze.scan import Scan

BUCKETS = 240
HOUR_SQL = f"epoch_us(end_time) // {HOUR_US}"
MOST_STRATA = 60
ENDED = "tcp_close is not null and tcp_close <> 'connect_failed'"
# Row-wise measures: name -> SQL over the columns of `flow`.
OPENED = "coalesce(flow_start_time >= start_time, false)"
HISTOGRAMS = {
    # The handshake is the flow's, not each interval's.
    "connect_latency": f"case when {OPENED} then connect_latency_us end",
    "rtt": "rtt_us",
    "rtt_min": "rtt_min_us",
    "queueing": "rtt_us - rtt_min_us",
}
# What is measured only when a metric of it is asked for. A connection is counted when it ends.
ON_REQUEST = {"life": f"case when {ENDED} then epoch_us(end_time) - epoch_us(flow_start_time) end"}
FAILED = "tcp_close = 'connect_failed'"
# What is counted of a row is told from these facts.
FACTS = {
    "opened": OPENED,
    "tcp": "coalesce(transport = 'tcp', false)",
    "ended": "tcp_close is not null",
    "failed": f"coalesce({FAILED}, false)",
    "timed_out": "coalesce(tcp_close = 'timeout', false)",
    "reset": "coalesce(tcp_close in ('rst_sent', 'rst_received'), false)",
}
_SUMMED = ("bytes", "packets", "retransmits")
_TOLD = {
    "flows": "{opened}",
    "connects": "{tcp} and ({opened} or {failed})",
    "connect_failures": "{failed}",
    "closed": "{ended} and not {failed}",
    "timeouts": "{timed_out}",
    "resets": "{reset}",
}


def told_sql() -> dict[str, str]:
    """What is counted of a row, as SQL conditions on it."""
    return {name: sql.format(**FACTS) for name, sql in _TOLD.items()}


# What is counted of a row, by name, as SQL.
COUNTS = {name: f"scaled(({sql})::INTEGER, weight)" for name, sql in told_sql().items()} | {
    name: name for name in _SUMMED
}
ABSOLUTE = {"flows", "bytes"}


@dataclass(frozen=True)
class Window:
    """One side's extent: microseconds since 1970, UTC, [start, end). `hours` (since 1970), when given, are the only
    ones that are measured, in the order of their pairs (see `pairing`).
    """

    start: int
    end: int
    hours: tuple[int, ...] = ()

    @property
    def seconds(self) -> float:
        """Length of what is measured of the window."""
        return len(self.hours) * 3600.0 if self.hours else (self.end - self.start) / 1e6

    @property
    def buckets(self) -> int:
        """Time buckets that it is cut into: 240, fewer when they would be shorter than a second; whole parts of hours
        when these are paired.
        """
        if self.hours:
            return len(self.hours) * self._in_an_hour
        return max(1, min(BUCKETS, int(self.seconds)))

    def buckets_of(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """The bucket of every time (microseconds since 1970); -1 outside the hours that are measured."""
        if not self.hours:
            return np.clip((times - self.start) * self.buckets // (self.end - self.start), 0, self.buckets - 1)
        first = min(self.hours)
        # Of one more at both ends, where the hours outside are.
        places = np.full(max(self.hours) - first + 3, -1)
        places[np.array(self.hours) - first + 1] = np.arange(len(self.hours))
        hours = times // HOUR_US
        place = places[np.clip(hours - first + 1, 0, len(places) - 1)]
        part = (times - hours * HOUR_US) * self._in_an_hour // HOUR_US
        return np.where(place < 0, -1, place * self._in_an_hour + part)

    @property
    def condition_sql(self) -> str:
        """SQL that says whether a row of `flow` is measured (once `choose_hours` has been called)."""
        return f"{HOUR_SQL} in (select hour from chosen_hours)" if self.hours else "true"

    @property
    def _in_an_hour(self) -> int:
        return max(1, BUCKETS // len(self.hours))

    def choose_hours(self, scan: Scan) -> None:
        """Tell the scan's connection which hours are measured, and in which order."""
        if self.hours:
            hours = pl.DataFrame({"hour": self.hours, "place": range(len(self.hours))})
            scan.connection.register("chosen_hours", hours.to_arrow())


@dataclass(frozen=True)
class Measured:
    """One side.

    `buckets`: bucket, the sums of `COUNTS`, and the mean logarithm of each histogram's values (`log_rtt`, ...).
    `counts`: batch, stratum and the sums of `COUNTS`. `histograms`: histogram, batch, stratum, bin, count.
    """

    window: Window
    rows: int
    buckets: pl.DataFrame
    counts: pl.DataFrame
    histograms: pl.DataFrame
    quality: CaptureQuality


@dataclass(frozen=True)
class Outline:
    """A first look at one side: its window, and every combination of `KEYS` with its number of rows (`count`)."""

    window: Window
    combinations: pl.DataFrame
    sampling: frozenset[int]

    @property
    def least_sampling(self) -> int:
        """The sampling that every row has at least: what is counted is certain for so many flows fewer."""
        return min(self.sampling)


def evidence(least_sampling: int) -> dict[str, str]:
    """`COUNTS` for inference: what only enters ratios counts as recorded, relative to the least sampling, so that no
    trial is invented; flows and bytes are those of the whole traffic.
    """
    if least_sampling == 1:
        return COUNTS
    return {name: sql if name in ABSOLUTE else f"({sql}) // {least_sampling}" for name, sql in COUNTS.items()}


def told() -> dict[str, str]:
    """The `COUNTS` that the facts of a row tell, as conditions on their names."""
    return {name: sql.format(**{fact: fact for fact in FACTS}) for name, sql in _TOLD.items()}


def outline(scan: Scan, first_pass: FirstPass) -> Outline | None:
    """What the first pass over a side says; None without a row in its window."""
    found = frames.taken(first_pass.result)
    if found.is_empty():
        return None
    start, end = int(found["first"].min()), int(found["last"].max())  # type: ignore[arg-type]
    since, until = scan.window.since, scan.window.until
    # The window that was asked for counts as recorded up to a second from its first and last row.
    first = max(int(since.timestamp() * 1e6), start - 1_000_000) if since else start
    last = min(int(until.timestamp() * 1e6), end + 1_000_000) if until else end + 1
    sampling = frozenset(found["least"].to_list()) | frozenset(found["most"].to_list())
    return Outline(Window(first, max(last, first + 1)), found.select(*KEYS, "count"), sampling)


def paired(baseline: Outline, candidate: Outline, zone: tzinfo | None) -> tuple[Outline, Outline, Pairing | None]:
    """Both sides with their windows reduced to paired hours where that applies (see `pairing`)."""
    windows = [(side.window.start, side.window.end) for side in (baseline, candidate)]
    found = pair(windows[0], windows[1], zone) if applies(windows[0], windows[1]) else None
    if found is None:
        return baseline, candidate, None
    hours = (found.baseline, found.candidate)
    before, after = (
        replace(side, window=replace(side.window, hours=own))
        for side, own in zip((baseline, candidate), hours, strict=True)
    )
    return before, after, found


def name_strata(*sides: pl.DataFrame) -> list[pl.DataFrame]:
    """For each side's combinations their `stratum`: service x peer group x direction, the rarest under `(other)`."""
    peer = pl.when(pl.col("role") == "server").then("client_address").otherwise("server_address")
    service = pl.coalesce(pl.col("server_name"), pl.col("server_port").cast(pl.String), pl.lit("*"))
    addressed = [side.with_columns(peer=peer) for side in sides]
    peers = pl.concat(addressed)["peer"].drop_nulls().unique()
    group = pl.col("peer").replace_strict(peers, [_network(one) for one in peers], default="?", return_dtype=pl.String)
    named = [
        side.with_columns(stratum=pl.concat_str(service, group, pl.col("role").fill_null("?"), separator=" | ")).drop(
            "peer"
        )
        for side in addressed
    ]
    sizes = pl.concat(named).group_by("stratum").agg(pl.col("count").sum()).sort("count", "stratum", descending=True)
    kept = sizes["stratum"].head(MOST_STRATA).to_list()
    return [
        side.with_columns(stratum=pl.when(pl.col("stratum").is_in(kept)).then("stratum").otherwise(pl.lit("(other)")))
        for side in named
    ]


def _network(address: str) -> str:
    """Its /24 (IPv4) or /64 (IPv6); what is no address is a group of its own."""
    if ":" not in address:
        return address.rpartition(".")[0] or address
    try:
        return str(IPv6Network((address, 64), strict=False))
    except ValueError:
        return address


def measure(
    scan: Scan, outline: Outline, strata: pl.DataFrame, quality: CaptureQuality, further: Iterable[str] = ()
) -> Measured:
    """Measure one side; `strata` is this side's frame of `name_strata`, `further` the histograms of `ON_REQUEST`
    that are measured, too.
    """
    histograms = HISTOGRAMS | {name: ON_REQUEST[name] for name in further}
    window = outline.window
    names = strata["stratum"].unique().sort()
    stratum_of = _lookup(scan, strata, names)
    window.choose_hours(scan)
    cells = frames.fold(
        scan,
        _narrow_rows(scan, outline, histograms),
        lambda: Cells(window.buckets, window.buckets_of, len(names), stratum_of, _SUMMED, list(histograms)),
    )
    counted = cells.frames(told(), ABSOLUTE, names.to_list())
    return Measured(window, int(strata["count"].sum()), *counted, quality)


def _lookup(scan: Scan, strata: pl.DataFrame, names: pl.Series) -> Lookup:
    """The place among `names` of each combination's stratum, by the hash of its keys, as DuckDB has it."""
    scan.connection.register("combinations", strata.select(*KEYS).with_row_index("place").to_arrow())
    try:
        hashed = frame(scan, f"select hash({', '.join(KEYS)}) as key from combinations order by place")
    finally:
        scan.connection.unregister("combinations")
    return Lookup(hashed["key"].to_numpy(), names.search_sorted(strata["stratum"]).to_numpy())


def _narrow_rows(scan: Scan, outline: Outline, histograms: Mapping[str, str]) -> str:
    """SQL: every row that is measured as `Cells` takes it, in as few bytes as it fits."""
    least, weighted = outline.least_sampling, counting.is_weighted(scan)
    counts = evidence(least)
    columns = {
        "time": "epoch_us(end_time)",
        "key": HASH_SQL,
        "code": code_sql(OPENED),
        **{name: counts[name] for name in _SUMMED},
        **{f"value_{name}": value_sql(sql) for name, sql in histograms.items()},
    }
    if weighted:
        columns |= {"weight": "weight", "evidence": f"weight // {least}"}
    read = ", ".join(f"{sql} as {name}" for name, sql in columns.items())
    return f"select {read} from flow_with_losses flow"


def quality_of(scan: Scan, sampling: frozenset[int]) -> CaptureQuality:
    """What this window's captures say of themselves, from footers and the health table."""
    footers = [file.footer for file in scan.files.get("flows", [])]
    seen: int | None = None
    lost = gaps = 0
    timeouts: frozenset[float] = frozenset()
    if scan.has("health"):
        seen, lost, gaps, *ends = scan.fetch(
            "select sum(events_seen) filter (kind <> 'gap')::BIGINT, "
            "coalesce(sum(events_lost) filter (kind <> 'gap'), 0)::BIGINT, "
            "count(*) filter (kind = 'gap'), min(active_timeout_us), max(active_timeout_us) from health"
        )[0]
        timeouts = frozenset(value / 1e6 for value in ends if value)
    return CaptureQuality(
        filters=frozenset(footer.text("filter") for footer in footers),
        sources=frozenset(footer.text("source") for footer in footers),
        sampling=sampling,
        active_timeouts=timeouts,
        events_seen=seen,
        events_lost=lost,
        gaps=gaps,
    )
