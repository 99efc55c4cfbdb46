"""Counting flows, not rows, and sampled flows for what they stand for: macros that depend on the trace.

`counts_the_flow` is true on one row of every flow. A flow has one row per interval and exactly one that is not
`active`: the row with which it ended (or with which its capture did). Counting those rows counts flows, at no cost. Two
cases need more: a window that ends before the trace does, and a capture that has not ended. Flows that are open then
have only `active` rows in the window; the last of them counts the flow.

A row may stand for more than itself: 1 in `sampling_interval` flows was recorded, and a row may hold `flow_count` short
flows together. Where a trace has such rows,

`scaled(counter, sampling)` is a counter times the sampling in force, and `recorded(counter, sampling)` what it was
before; `stands_for(sampling, flows)` is how many flows a row stands for, `tally(condition, weight)` counts rows by
that weight, and `weighted_quantile(histogram(weighted(log_bucket(x), weight)), q)` is `histogram_quantile` of them.

Where a trace has none, all of these are the plain expression: the multiplication alone would cost a third of the time
of a large sum. For the same reason the view `flow_with_losses` is `flow` where no row is a second sighting.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from analyze.footer import holds_nothing

if TYPE_CHECKING:
    from analyze.scan import Scan

_PLAIN = {
    "scaled(counter, sampling)": "counter",
    "recorded(counter, sampling)": "counter",
    "stands_for(sampling, flows)": "1::BIGINT",
    # A third faster than count(*) with a filter; of nothing but nulls it is null.
    "tally(condition, weight)": "coalesce(count_if(condition), 0)::BIGINT",
    "weighted(bucket, weight)": "bucket",
    "weighted_quantile(counts, part)": "histogram_quantile(counts, part)",
}
_WEIGHTED = {
    "scaled(counter, sampling)": "counter * coalesce(sampling, 1)",
    "recorded(counter, sampling)": "counter // coalesce(sampling, 1)",
    "stands_for(sampling, flows)": "coalesce(sampling, 1) * coalesce(flows, 1)",
    "tally(condition, weight)": "coalesce(sum(weight) filter (where condition), 0)::BIGINT",
    "weighted(bucket, weight)": "case when bucket is not null then {'bucket': bucket, 'weight': weight} end",
    "weighted_quantile(counts, part)": """bucket_value((list_extract(map_keys(counts), list_filter(
        range(1, len(map_keys(counts)) + 1),
        lambda place: list_sum(masses(counts)[1:place]) >= part * list_sum(masses(counts))
      )[1])).bucket)""",
}
_ENDED = "row_reason is distinct from 'active'"


def macros() -> dict[str, Callable[[Scan], None]]:
    """Every macro by its name, and what defines it for the open `flows`."""
    found = {signature.partition("(")[0]: functools.partial(_create_weighted, signature) for signature in _PLAIN}
    return {**found, "counts_the_flow": _create_counts_the_flow}


def losses(general: Callable[[Scan], None], scan: Scan) -> None:
    """Create the view `flow_with_losses`: by `general` only where the trace has second sightings (statistics of the
    files answer this): DuckDB knows less about the rows of a union, and adds them up a fifth more slowly.
    """
    if scan.execute("select 1 from flows where duplicate limit 1").fetchall():
        general(scan)
    else:
        scan.execute("create temp view flow_with_losses as select * from flow")


def _create_weighted(signature: str, scan: Scan) -> None:
    expression = (_WEIGHTED if is_weighted(scan) else _PLAIN)[signature]
    scan.execute(f"create temp macro {signature} as {expression}")


def _create_counts_the_flow(scan: Scan) -> None:
    counts = _ENDED
    if may_be_open(scan) and _find_open_flows(scan, scan.in_window("end_time")):
        counts += " or (row_capture, row_flow, row_time) in (select (capture, flow_id, last_time) from open_flow)"
    scan.execute(f"create temp macro counts_the_flow(row_reason, row_capture, row_flow, row_time) as {counts}")


def is_weighted(scan: Scan) -> bool:
    """Whether some row stands for more than one flow; the files' own statistics answer this without reading a row.

    Asked once a scan, and of DuckDB only where it can be so: of a trace of a thousand files that takes half a second.
    """
    if scan.weighted is None:
        scan.weighted = any(
            scan.execute(f"select 1 from flows where {column} > 1 limit 1").fetchall()
            for column in ("sampling_interval", "flow_count")
            if scan.spools["flows"] or not all(holds_nothing(file.path, column) for file in scan.files["flows"])
        )
    return scan.weighted


def may_be_open(scan: Scan) -> bool:
    """Whether flows can be open at the end of what is analysed."""
    if scan.window.until is not None or scan.spools["flows"]:
        return True
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for file in scan.files["flows"]:
        key = (file.name.host, file.name.capture)
        last[key] = max(last.get(key, (0, "")), (file.name.numbers[-1], file.footer.text("closed")))
    return any(closed != "end" for _, closed in last.values())


def _find_open_flows(scan: Scan, inside: str) -> bool:
    scan.execute(
        f"""create table open_flow as
        select capture, flow_id, max(end_time) as last_time
        from flows where flow_end_reason = 'active' and flow_id is not null and {inside} and duplicate is not true
        group by all"""
    )
    if not _any_open(scan):
        return False
    # Flows with several rows are few: looking for the ends of those only reads one column of all the others.
    scan.execute(
        f"""delete from open_flow where (capture, flow_id) in (
            select (capture, flow_id) from flows
            where flow_end_reason is distinct from 'active' and {inside}
              and flow_id in (select flow_id from open_flow)
        )"""
    )
    return _any_open(scan)


def _any_open(scan: Scan) -> bool:
    return bool(scan.execute("select 1 from open_flow limit 1").fetchall())
