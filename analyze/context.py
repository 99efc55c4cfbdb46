"""What an answer rests on: the window that was analysed, what was lost in it, and when nothing was recorded."""

from __future__ import annotations

import math
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

from analyze import counting
from analyze.moments import show, show_window
from analyze.result import Context, microseconds
from netrec.text import format_duration

if TYPE_CHECKING:
    from analyze.scan import Scan

_SHOWN_GAPS = 3


def of(scan: Scan) -> Context:
    """The context of the answers of a scan: losses and gaps from `health`, the window from the files' footers."""
    found = Context()
    if scan.has("health"):
        _health(scan, found)
    elif scan.files:
        lost = [file.footer.text("events_lost") for opened in scan.files.values() for file in opened]
        found.lost = sum(int(text) for text in lost if text.isdigit())
    if "flows" in scan.views:
        _sampling(scan, found)
    found.since, found.until = recorded(scan)
    found.notes = [*scan.notes, *_unfinished(scan), *_overlaps(scan)]
    found.skipped = [str(skipped) for skipped in scan.skipped]
    return found


def _health(scan: Scan, found: Context) -> None:
    """What the recorder said of itself, in one pass: opening a table costs more than reading this one."""
    steps: dict[tuple[int, str, str], None] = {}
    for kind, start, end, reason, seen, lost, sampling in scan.fetch(
        """select
          case when notable then kind end as kind,
          case when notable then start_time end as start_time,
          case when notable then end_time end as end_time,
          case when notable then reason end as reason,
          sum(events_seen)::BIGINT, sum(events_lost)::BIGINT, max(sampling_interval)
        from (select *, kind in ('gap', 'degraded', 'restored') as notable from health where kind is not null)
        group by all order by 2, 3, 4"""
    ):
        if kind == "gap":
            found.gaps.append((start, end, reason or ""))  # every source of a capture has a row of it
            continue
        found.seen, found.lost = _plus(found.seen, seen), _plus(found.lost, lost)
        found.sampling = max(found.sampling, sampling or 1)
        if kind:
            steps[end, kind, reason] = None
    found.steps = sorted(steps, key=lambda step: (step[0], step[1], step[2] is None, step[2]))


def _plus(total: int | None, part: int | None) -> int | None:
    return part if total is None else total + (part or 0)


def _sampling(scan: Scan, found: Context) -> None:
    """What the rows say of sampling, and how sure totals are: the variance of the Horvitz-Thompson estimator for flows
    chosen independently of each other (Sarndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992).

    A row that holds several short flows is as many choices, not one. Of their sizes only the mean is known: how far
    they are apart is taken from how far the means of such rows are apart (the mean square between groups of a one-way
    analysis of variance, which says too much rather than too little where the rows differ by nature); of a single such
    row, that they differ as much as they are large.
    """
    if not counting.is_weighted(scan):
        return
    least, most, flows, flows_variance, size, size_variance = scan.fetch(
        """with whole as (
            select capture, coalesce(flow_id, -epoch_us(end_time)) as flow_id, sum(flows)::DOUBLE as flows,
              coalesce(sum(bytes), 0)::DOUBLE as bytes, min(coalesce(sampling_interval, 1)) as least,
              max(coalesce(sampling_interval, 1)) as most, max(coalesce(flow_count, 1))::DOUBLE as held
            from flow group by all
        ),
        together as (
            select bytes / most / held as mean, held,
              sum(bytes / most) over () / sum(held) over () as overall, count(*) over () as rows
            from whole where held > 1
        ),
        spread as (
            select coalesce(case when max(rows) > 1 then sum(held * pow(mean - overall, 2)) / (max(rows) - 1)
              else max(overall * overall) end, 0) as within
            from together
        )
        select min(least), max(most), sum(flows), sum(flows * flows / held * (most - 1) / most), sum(bytes),
          sum((bytes * bytes / held + (held - 1) * within * most * most) * (most - 1) / most) from whole, spread"""
    )[0]
    if most is None or most <= 1:
        return
    found.least_sampling, found.sampling = least, most
    for what, total, variance in (("flows", flows, flows_variance), ("bytes", size, size_variance)):
        if total:
            found.sampling_error[what] = 1.96 * math.sqrt(variance) / total


def lines(context: Context, zone: tzinfo | None, rows: int, most: int = 0) -> list[str]:
    """The lines under a table of so many rows; `most` is how many were asked for with -n (0: all)."""
    cut = f", as many as -n {most} allows" if most and rows == most else ""
    first = [f"{rows:,} rows{cut}" if rows != 1 else f"1 row{cut}"]
    if context.since is not None and context.until is not None:
        first.insert(0, show_window(context.since, context.until, zone))
    if context.lost is not None:
        of_seen = f" of {context.seen + context.lost:,}" if context.seen is not None else ""
        first.append(f"lost {context.lost:,}{of_seen} events")
    skipped = [f"{len(context.skipped)} files were left out (named on stderr)"] if context.skipped else []
    return [" | ".join(first), *caveats(context, zone), *_gap_lines(context, zone), *context.notes, *skipped]


def warnings(context: Context, zone: tzinfo | None) -> list[str]:
    """The sentences that must not go unsaid where there is no place for notes beside the rows."""
    lost = []
    if context.lost:
        of_seen = f" of {context.seen + context.lost:,}" if context.seen is not None else ""
        lost = [f"the recorder lost {context.lost:,}{of_seen} events in this window"]
    return [*lost, *caveats(context, zone), *_gap_lines(context, zone), *context.notes]


def caveats(context: Context, zone: tzinfo | None) -> list[str]:
    """Why sums are estimates, and when the recorder did less than it was asked to."""
    return [*_sampling_line(context), *_step_lines(context, zone)]


def _sampling_line(context: Context) -> list[str]:
    if context.sampling <= 1:
        return []
    least = f"{context.least_sampling} to 1 in " if context.least_sampling != context.sampling else ""
    error = ", ".join(f"all {what} +-{_percent(share)}" for what, share in context.sampling_error.items())
    about = f" ({error}; a part of them less surely)" if error else ""
    return [
        f"sampled 1 in {least}{context.sampling}: sums are estimates{about}; "
        "lists and distinct counts hold sampled flows only"
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _step_lines(context: Context, zone: tzinfo | None) -> list[str]:
    if not context.steps:
        return []
    (first, _, _), (last, kind, reason) = context.steps[0], context.steps[-1]
    if len(context.steps) == 1:
        return [f"the recorder {kind} at {show(last, zone)}: {reason}"]
    times = f"{len(context.steps)} times from {show(first, zone)} to {show(last, zone)}"
    return [f"the recorder changed how much it does {times} (netrec analyze losses shows each); last, {kind}: {reason}"]


def _gap_lines(context: Context, zone: tzinfo | None) -> list[str]:
    found = []
    for start, end, reason in context.gaps[:_SHOWN_GAPS]:
        because = f" ({reason})" if reason else ""
        found.append(f"not recording {show(start, zone)} to {show(end, zone)}{because}")
    rest = context.gaps[_SHOWN_GAPS:]
    if rest:
        seconds = sum(end - start for start, end, _ in rest) / 1e6
        found.append(f"and {len(rest)} more gaps of {format_duration(seconds)} in all")
    return found


def recorded(scan: Scan) -> tuple[int | None, int | None]:
    """The part of the window in which the traces recorded, from when their files were opened and closed."""
    starts: list[int] = []
    ends: list[int] = []
    for opened in scan.files.values():
        for file in opened:
            starts += _moment(file.footer.text("opened"))
            ends += _moment(file.footer.text("closed_time"))
    for table, spools in scan.spools.items():
        for one in spools:
            if newest := one.newest(scan.time_column(table)):
                ends.append(microseconds(newest))
                starts.append(microseconds(newest))
    since = microseconds(scan.window.since) if scan.window.since else None
    until = microseconds(scan.window.until) if scan.window.until else None
    if not starts or not ends:
        return since, until
    return max(min(starts), since or 0), min(max(ends), until or max(ends))


def _unfinished(scan: Scan) -> list[str]:
    """Captures whose newest rows come from what is not yet a finished file."""
    captures = {one.file.folder: one for spools in scan.spools.values() for one in spools}
    return [
        f"capture {folder.name} is still recording: its last second may be missing"
        if one.running
        else f"capture {folder.name} was killed, its last second may be missing: finish it with "
        f"netrec repair {one.trace}"
        for folder, one in sorted(captures.items())
    ]


def _overlaps(scan: Scan) -> list[str]:
    """Captures that watched the same host at the same time: what both saw is counted twice."""
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for file in scan.files.get("flows", []):
        opened, closed = _moment(file.footer.text("opened")), _moment(file.footer.text("closed_time"))
        if opened and closed:
            key = (file.name.host, file.name.capture)
            low, high = spans.get(key, (opened[0], closed[0]))
            spans[key] = (min(low, opened[0]), max(high, closed[0]))
    reached: dict[str, int] = {}
    hosts: dict[str, None] = {}
    for (host, _), (start, end) in sorted(spans.items(), key=lambda item: item[1]):
        if start < reached.get(host, start):
            hosts[host] = None
        reached[host] = max(end, reached.get(host, end))
    return [f"captures of {host} overlap in time: a flow that two of them saw is counted twice" for host in hosts]


def _moment(text: str) -> list[int]:
    try:
        return [microseconds(datetime.fromisoformat(text))]
    except ValueError:
        return []
