"""Counting flows, not rows, and sampled flows for what they stand for: macros that depend on the trace.

`counts_the_flow` is true on one row of every flow. A flow has one row per interval and exactly one that is not
`active`: the row with which it ended (or with which its capture did). Counting those rows counts flows, at no cost. Two
cases need more: a window that ends before the trace does, and a capture that has not ended. Flows that are open then
have only `active` rows in the window; the last of them counts the flow.

`scaled` multiplies a counter by the sampling in force; where nothing was sampled it is the counter itself, because the
multiplication alone would cost a third of the time of a large sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analyze.scan import Scan

MACROS = ("counts_the_flow", "scaled")
_ENDED = "row_reason is distinct from 'active'"


def create_macros(scan: Scan) -> None:
    """Define `counts_the_flow(reason, capture, flow, time)` and `scaled(counter, sampling)` for the open `flows`."""
    sampled = scan.execute("select 1 from flows where sampling_interval > 1 limit 1").fetchall()
    expression = "counter * coalesce(sampling, 1)" if sampled else "counter"
    scan.execute(f"create temp macro scaled(counter, sampling) as {expression}")
    counts = _ENDED
    if may_be_open(scan) and _find_open_flows(scan, scan.in_window("end_time")):
        counts += " or (row_capture, row_flow, row_time) in (select (capture, flow_id, last_time) from open_flow)"
    scan.execute(f"create temp macro counts_the_flow(row_reason, row_capture, row_flow, row_time) as {counts}")


def may_be_open(scan: Scan) -> bool:
    """Whether flows can be open at the end of what is analysed."""
    if scan.window.until is not None or scan.spools["flows"]:
        return True
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for file in scan.files["flows"]:
        key = (file.name.host, file.name.capture)
        last[key] = max(last.get(key, (0, "")), (file.name.sequence, file.footer.text("closed")))
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
