"""Counting flows, not rows: which row of a flow counts it.

A flow has one row per interval and exactly one that is not `active`: the row with which it ended (or with which its
capture did). Counting those rows counts flows, at no cost. Two cases need more: a window that ends before the trace
does, and a capture that has not ended. Flows that are open then have only `active` rows in the window; the last of
them counts the flow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from analyze.scan import Scan

_ENDED = "row_reason is distinct from 'active'"


def create_macro(connection: duckdb.DuckDBPyConnection, scan: Scan) -> None:
    """Define `counts_the_flow(reason, capture, flow, time)` for this scan's window and captures."""
    if not may_be_open(scan):
        connection.execute(
            f"create temp macro counts_the_flow(row_reason, row_capture, row_flow, row_time) as {_ENDED}"
        )
        return
    inside = scan.in_window("end_time")
    connection.execute(
        f"""create temp table open_flow as
        select capture, flow_id, max(end_time) as last_time
        from flows where flow_end_reason = 'active' and {inside} and duplicate is not true group by all
        having (capture, flow_id) not in (
            select (capture, flow_id) from flows
            where flow_end_reason is distinct from 'active' and flow_id is not null and {inside})"""
    )
    connection.execute(
        "create temp macro counts_the_flow(row_reason, row_capture, row_flow, row_time) as "
        f"{_ENDED} or (row_capture, row_flow, row_time) in (select (capture, flow_id, last_time) from open_flow)"
    )


def may_be_open(scan: Scan) -> bool:
    """Whether flows can be open at the end of what is analysed."""
    if scan.window.until is not None or scan.spools["flows"]:
        return True
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for file in scan.files["flows"]:
        key = (file.name.host, file.name.capture)
        last[key] = max(last.get(key, (0, "")), (file.name.sequence, file.footer.text("closed")))
    return any(closed != "end" for _, closed in last.values())
