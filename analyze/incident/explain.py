"""The whole review of one trace: find the window, look closer at it, and hold it against its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from analyze.answer import Answer
from analyze.compare.measure import Window
from analyze.compare.windows import parse_interval
from analyze.frames import frame, recorded
from analyze.incident import document, series, signals, slices
from analyze.incident.document import Findings
from analyze.incident.series import Grid
from analyze.incident.windows import Span, baseline_of, found_windows, window_at
from analyze.result import microseconds
from analyze.scan import RECORDED_BY, Scan
from analyze.statistics.known_patterns import PATTERNS
from analyze.statistics.patterns import Match, match
from analyze.statistics.timeline import Movement, movements
from analyze.window import parse_time
from netrec.errors import UsageError

if TYPE_CHECKING:
    from analyze.options import Session

CLOSER_SECONDS = 600.0
CLOSER_FACTOR = 3
SHOWN_ROWS = 10
INVOLVED = 10
# What a finished look at a window needs at least, to call what it saw a pattern.
NOT_ENOUGH = "too few connections in the window to match patterns"
LEAST_ROWS = 20


def run(
    session: Session, scan: Scan, whole: Span, at: str | None, window: str | None, baseline: str | None
) -> tuple[Findings | None, list[Scan], Answer]:
    """Review the trace; also returns the scans whose files are the evidence."""
    coarse = series.grid(whole.start, whole.end)
    with recorded() as seen:
        moved = movements(series.load(scan, coarse))
    candidates = found_windows(moved, coarse)
    chosen = _chosen(session, scan, at, window, moved, coarse, candidates)
    if chosen is None:
        return None, [scan], document.nothing(whole, session.zone, _missing_tables(scan))
    closer = _closer(chosen, whole, coarse)
    if closer is not None:
        near = _open(session, Span(closer.start, closer.end))
        with recorded() as seen:
            near_moved = movements(series.load(near, closer))
        if window is None and near_moved:
            refined = window_at((chosen.start + chosen.end) // 2, near_moved, closer)
            # The closer look moves the edges; it does not find another incident.
            if refined.start < chosen.end and refined.end > chosen.start and any(one.bad for one in near_moved):
                chosen = Span(refined.start, min(refined.end, whole.end))
        grid, moved = closer, near_moved
    else:
        grid = coarse
    others = [span for span in candidates if span.end <= chosen.start or span.start >= chosen.end]
    quiet = _baseline(session, scan, baseline, chosen, whole, others)
    found, scans = _review(session, chosen, quiet, grid, moved, others, seen)
    return found, scans, document.build(found, session.zone)


def rerun_arguments(session: Session, found: Findings | None) -> list[str]:
    """The options that give the same answer from the bundle's trace."""
    if found is None:
        return []
    spans = {"--window": found.window, "--baseline": found.baseline}
    arguments = [word for option, one in spans.items() for word in (option, f"{_text(one.start)}/{_text(one.end)}")]
    return [*arguments, *(["--filter", f"'{session.filter}'"] if session.filter else [])]


def _review(
    session: Session,
    window: Span,
    quiet: Span,
    grid: Grid,
    moved: Sequence[Movement],
    others: Sequence[Span],
    seen: Sequence[str],
) -> tuple[Findings, list[Scan]]:
    incident, usual = _open(session, window), _open(session, quiet)
    now, before = Window(window.start, window.end), Window(quiet.start, quiet.end)
    inside = [one for one in moved if grid.time(one.start) < window.end and grid.time(one.end) > window.start]
    with recorded() as signalled:
        measured = signals.measure(incident, usual, now, before)
    measured |= _dns_lead(inside, grid)
    rows = incident.fetch("select count(*) from flow")[0][0]
    matches: list[Match] = match(measured, PATTERNS) if rows >= LEAST_ROWS else []
    leading = slices.leading(inside, matches[0].pattern.shows if matches else ())
    ranked, sliced = pl.DataFrame(), list[str]()
    if leading and rows and slices.explainable(leading):
        with recorded() as sliced:
            ranked = slices.explain(incident, usual, now, before, leading)
    with recorded() as involving:
        involved = _involved(incident)
    with recorded() as shown:
        rows_shown = _rows(incident, leading)
    found = Findings(
        window=window,
        baseline=quiet,
        grid=grid,
        movements=inside,
        matches=matches,
        leading=leading,
        slices=ranked,
        involved=involved,
        rows=rows_shown,
        signals=measured,
        missed=_missed(incident),
        asked={
            "timeline": seen,
            "patterns": signalled,
            "slices": sliced,
            "involved": involving,
            "evidence": shown,
        },
        others=others,
        notes=[*_missing_tables(incident), *([NOT_ENOUGH] if rows < LEAST_ROWS else [])],
    )
    return found, [incident, usual]


def _chosen(
    session: Session,
    scan: Scan,
    at: str | None,
    window: str | None,
    moved: Sequence[Movement],
    grid: Grid,
    candidates: Sequence[Span],
) -> Span | None:
    if window is not None:
        interval = parse_interval(window, "--window", scan, session)
        bounds = [
            microseconds(parse_time(text, "--window", scan.end, session.zone))
            for text in (interval.since, interval.until)
            if text
        ]
        return Span(bounds[0], bounds[1])
    if at is not None:
        moment = microseconds(parse_time(at, "--at", scan.end, session.zone))
        if not grid.start <= moment <= grid.end:
            raise UsageError(f"--at {at} lies outside the trace's flows", "see netrec inspect for its times")
        return window_at(moment, moved, grid)
    return candidates[0] if candidates else None


def _closer(window: Span, whole: Span, coarse: Grid) -> Grid | None:
    """A finer grid around the window; None when the whole trace was already looked at so finely."""
    margin = max(CLOSER_SECONDS, CLOSER_FACTOR * window.seconds) * 1e6
    start = max(whole.start, window.start - round(margin))
    end = min(whole.end, window.end + round(margin))
    finer = series.grid(start, end)
    return finer if finer.width < coarse.width or (start, end) != (whole.start, whole.end) else None


def _baseline(
    session: Session, scan: Scan, text: str | None, window: Span, whole: Span, others: Sequence[Span]
) -> Span:
    if text is not None:
        interval = parse_interval(text, "--baseline", scan, session)
        since, until = (
            parse_time(one or "", "--baseline", scan.end, session.zone) for one in (interval.since, interval.until)
        )
        return Span(microseconds(since), microseconds(until))
    found = baseline_of(window, whole, others)
    if found is None:
        raise UsageError(
            "the trace has nothing outside this window to hold it against",
            "name a quiet time with --baseline START/END",
        )
    return found


def _open(session: Session, span: Span) -> Scan:
    opened = session.open(since=_text(span.start), until=_text(span.end))
    opened.require("flows")
    return opened


def _involved(scan: Scan) -> pl.DataFrame:
    return frame(
        scan,
        "select client_address as client, endpoint(server, server_port) as service, "
        "coalesce(any_value(process_name), '(unknown)') as process, "
        "tally(coalesce(flow_start_time >= start_time, false), weight) as new_connections, "
        "tally(tcp_close in ('connect_failed', 'timeout', 'rst_sent', 'rst_received'), weight) as failed, "
        "sum(retransmits)::BIGINT as retransmits, sum(bytes)::BIGINT as bytes from flow_with_losses "
        f"group by 1, 2 order by failed desc, retransmits desc, bytes desc, client, service limit {INVOLVED}",
    )


def _rows(scan: Scan, leading: Movement | None) -> pl.DataFrame:
    """The flows that show the symptom most."""
    order = {
        "retransmit_ratio": "retransmits desc",
        "connect_failure_ratio": "(tcp_close = 'connect_failed') desc",
        "reset_share": "(tcp_close in ('rst_sent', 'rst_received')) desc",
        "timeout_share": "(tcp_close = 'timeout') desc",
        "connect_latency": "connect_latency_us desc nulls last",
        "rtt": "rtt_us desc nulls last",
    }.get(leading.series.name if leading else "", "bytes desc")
    return frame(
        scan,
        "select end_time, client_address, client_port, endpoint(server, server_port) as service, process_name, "
        "tcp_close, bytes::BIGINT as bytes, retransmits::BIGINT as retransmits, connect_latency_us, rtt_us "
        f"from flow order by {order} nulls last, end_time, client_port limit {SHOWN_ROWS}".replace(
            "nulls last nulls last", "nulls last"
        ),
    )


def _missed(scan: Scan) -> list[str]:
    """What the recorder itself missed in the window."""
    from analyze import context

    about = context.of(scan)
    lines = context.warnings(about, None)
    if about.lost is None:
        return ["this trace does not say what its recorder missed (no health table)"]
    return lines or [f"the recorder missed nothing in this window ({about.seen or 0:,} events seen, none lost)"]


def _missing_tables(scan: Scan) -> list[str]:
    missing = [name for name in ("events", "host") if not scan.has(name)]
    return [f"this trace has no {name} table: record with {RECORDED_BY[name]} to see more" for name in missing]


def _dns_lead(moved: Sequence[Movement], grid: Grid) -> dict[str, float]:
    """Seconds from the fall of DNS answers to the fall of the other connects; left out unless both were seen."""
    dns = [one.start for one in moved if one.series.name == "dns_unanswered" and one.bad]
    others = [one.start for one in moved if one.series.name == "flow_rate" and one.level < one.usual]
    if not dns or not others:
        return {}
    return {"dns_lead_seconds": (min(others) - min(dns)) * grid.width / 1e6}


def _text(moment: int) -> str:
    from analyze.moments import iso

    return iso(moment)
