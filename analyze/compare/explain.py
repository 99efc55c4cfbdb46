"""Where a change comes from: the slices of the traffic that contribute to it, and edges that came or went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from analyze.compare.measure import HISTOGRAMS, ON_REQUEST, Window, evidence
from analyze.frames import frame
from analyze.result import literal
from analyze.statistics import slices
from analyze.statistics.comparison import MetricVerdict

if TYPE_CHECKING:
    from analyze.scan import Scan

# Dimension -> SQL over `flow`; the text of a slice.
DIMENSIONS = {
    "service": "endpoint(server, server_port)",
    "server": "coalesce(server, '(unknown)')",
    "client": "coalesce(client_address, '(unknown)')",
    "network": "coalesce(network_of(client_address), '(unknown)')",
    "port": "coalesce(server_port::VARCHAR, '*')",
    "process": "coalesce(process_name, '(unknown)')",
    "container": "coalesce(container_id, '(none)')",
    "host": "coalesce(host, '(unknown)')",
    "role": "coalesce(role, '(unknown)')",
}
PAIRS = (("client", "service"), ("network", "service"), ("process", "service"))
TELLING = ("service", "client", "network", "process", "container", "server", "port", "host", "role")
MOST_METRICS = 4
CONFIRM_BUCKETS = 32
SHOWN = 10
EDGE_LEAST = 10


def contributions(
    baseline: Scan,
    candidate: Scan,
    window: Window,
    rows: Sequence[MetricVerdict],
    by: Sequence[str] = (),
    least_sampling: int = 1,
) -> pl.DataFrame:
    """Ranked, confirmed slices of each metric in `rows` (at most the four with the smallest q): columns metric,
    dimension, value, baseline and candidate rate, support, risk_ratio, low, high, share_of_change, q_value.
    """
    chosen = sorted(rows, key=lambda row: row.q_value)[:MOST_METRICS]
    return ranked_slices(
        baseline, candidate, window, {row.metric.name: _symptom(row, least_sampling) for row in chosen}, by
    )


def ranked_slices(
    baseline: Scan, candidate: Scan, window: Window, measures: dict[str, tuple[str, str]], by: Sequence[str] = ()
) -> pl.DataFrame:
    """Ranked, confirmed slices of each measure, a name with the SQL of (bad, total) of a row of `flow`."""
    if not measures:
        return pl.DataFrame()
    before, after = (_counts(scan, window, measures, by) for scan in (baseline, candidate))
    ranked = {
        name: distinct(slices.rank(_joined(before, after, name)), slices.COUNTS).head(3 * SHOWN) for name in measures
    }
    buckets = _buckets(candidate, window, measures, ranked)
    found = []
    for name, table in ranked.items():
        own = buckets.select("dimension", "value", "bucket", bad=f"{name}_bad", total=f"{name}_total")
        confirmed = slices.confirm(table, own).head(SHOWN)
        found.append(
            confirmed.select(
                metric=pl.lit(name),
                dimension="dimension",
                value="value",
                baseline=pl.col("baseline_bad") / pl.col("baseline_total"),
                candidate=pl.col("bad") / pl.col("total"),
                support="support",
                risk_ratio="risk_ratio",
                low="low",
                high="high",
                share_of_change="share_of_change",
                q_value="q_value",
            )
        )
    return pl.concat(found)


def edges(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Client-to-service edges that only one side has, from both sides' combinations (see `measure.Outline`).

    An edge counts when it had at least ten rows, and when as much traffic as the other side saw would have
    shown at least five of them. Returns change ("new", "vanished"), client, service, rows; the busiest first.
    """
    sides = [_edges(side) for side in (before, after)]
    sizes = [max(int(side["rows"].sum()), 1) for side in sides]
    found = []
    for change, own, other, scale in (
        ("new", sides[1], sides[0], sizes[0] / sizes[1]),
        ("vanished", sides[0], sides[1], sizes[1] / sizes[0]),
    ):
        gone = own.join(other, on=["client", "service"], how="anti").filter(
            (pl.col("rows") >= EDGE_LEAST) & (pl.col("rows") * scale >= EDGE_LEAST / 2)
        )
        found.append(gone.select(pl.lit(change).alias("change"), "client", "service", "rows"))
    return pl.concat(found).sort(["rows", "change", "client", "service"], descending=[True, False, False, False])


def _edges(side: pl.DataFrame) -> pl.DataFrame:
    server = pl.coalesce("server_name", "server_address").fill_null("?")
    named = pl.when(server.str.contains(":", literal=True)).then("[" + server + "]").otherwise(server)
    service = named + ":" + pl.col("server_port").cast(pl.String).fill_null("*")
    return (
        side.select(client=pl.col("client_address").fill_null("?"), service=service, rows="count")
        .group_by("client", "service")
        .agg(pl.col("rows").sum())
    )


def distinct(ranked: pl.DataFrame, counts: Sequence[str]) -> pl.DataFrame:
    """One slice of those that are the same flows, by their `counts`, under several names: the one with the fewest
    parts, and of those the one that tells most. The order stays.
    """
    parts = pl.col("dimension").str.count_matches("+", literal=True)
    telling = pl.col("dimension").replace_strict({name: place for place, name in enumerate(TELLING)}, default=0)
    simple = ranked.with_row_index("place").sort(parts, telling, "place")
    return simple.unique(list(counts), keep="first", maintain_order=True).sort("place").drop("place")


def _symptom(row: MetricVerdict, least_sampling: int) -> tuple[str, str]:
    """SQL of (bad, total) for a metric: its events and trials, or the values above the baseline's quantile."""
    metric = row.metric
    if metric.kind == "quantile":
        value = f"({(HISTOGRAMS | ON_REQUEST)[metric.histogram]})"
        return f"coalesce({value} > {row.baseline!r}, false)::INTEGER", f"({value} is not null)::INTEGER"
    counts = evidence(least_sampling)
    return counts[metric.numerator], counts[metric.denominator]


def _sets(by: Sequence[str]) -> list[tuple[str, ...]]:
    chosen = [name for name in DIMENSIONS if not by or name in by]
    return [(), *((name,) for name in chosen), *(pair for pair in PAIRS if set(pair) <= set(chosen))]


def _grouped(measures: dict[str, tuple[str, str]], by: Sequence[str], bucket: str = "", where: str = "") -> str:
    """SQL: sums of every measure by dimension and value (and bucket), one scan for all of them."""
    sets = _sets(by)
    names = sorted({name for group in sets for name in group})
    columns = [f"{DIMENSIONS[name]} as d_{name}" for name in names]
    columns += [
        f"({bad})::BIGINT as {name}_bad, ({total})::BIGINT as {name}_total" for name, (bad, total) in measures.items()
    ]
    if bucket:
        columns.append(f"{bucket} as bucket")
    extra = ["bucket"] if bucket else []
    grouping = ", ".join(f"({', '.join([f'd_{name}' for name in group] + extra)})" for group in sets)
    label = "case " + " ".join(
        f"when {' and '.join(f'grouping(d_{name}) = {int(name not in group)}' for name in names) or 'true'} "
        f"then {literal(' + '.join(group))}"
        for group in sets
    )
    value = "concat_ws(' -> ', " + ", ".join(f"d_{name}" for name in names) + ")" if names else "''"
    sums = ", ".join(
        f"sum({name}_bad)::BIGINT as {name}_bad, sum({name}_total)::BIGINT as {name}_total" for name in measures
    )
    kept = " or ".join(f"sum({name}_total) >= {slices.MINIMUM_TOTAL // 2}" for name in measures)
    return (
        f"select {label} end as dimension, {value} as value, {'bucket, ' if bucket else ''}{sums} "
        f"from (select {', '.join(columns)} from flow_with_losses {where}) group by grouping sets ({grouping})"
        + ("" if bucket else f" having {kept} or dimension = ''")
    )


def _counts(scan: Scan, window: Window, measures: dict[str, tuple[str, str]], by: Sequence[str]) -> pl.DataFrame:
    # The hours of each side's own pairs, where there are such.
    return frame(scan, _grouped(measures, by, where=f"where {window.condition_sql}"))


def _joined(before: pl.DataFrame, after: pl.DataFrame, name: str) -> pl.DataFrame:
    own = after.select("dimension", "value", bad=f"{name}_bad", total=f"{name}_total")
    other = before.select("dimension", "value", baseline_bad=f"{name}_bad", baseline_total=f"{name}_total")
    return own.join(other, on=["dimension", "value"], how="left").with_columns(pl.col(slices.COUNTS).fill_null(0))


def _buckets(
    scan: Scan,
    window: Window,
    measures: dict[str, tuple[str, str]],
    ranked: dict[str, pl.DataFrame],
) -> pl.DataFrame:
    """Sums by coarse time bucket of the slices that are to be confirmed, and of the whole traffic."""
    wanted = pl.concat([table.select("dimension", "value") for table in ranked.values()]).unique()
    bucket = f"((epoch_us(end_time) - {window.start}) * {CONFIRM_BUCKETS} // {window.end - window.start})"
    needed = sorted({name for dimension in wanted["dimension"].to_list() for name in dimension.split(" + ")})
    found = frame(scan, _grouped(measures, needed or ["role"], bucket, f"where {window.condition_sql}"))
    whole = found.filter(pl.col("dimension") == "")
    return pl.concat([whole, found.join(wanted, on=["dimension", "value"], how="semi")])
