"""The overview of a trace: what it holds, who and when, how well it went, and whether it can be trusted."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from analyze import catalogue, context
from analyze.render.cells import cell
from analyze.report import parts
from analyze.report.page import Page, Part
from netrec.errors import MissingTableError

if TYPE_CHECKING:
    from analyze.options import Session
    from analyze.scan import Scan

# (query, parameters, title)
SECTIONS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("timeline", {}, "Traffic over time"),
    ("talkers-over-time", {"by": "process"}, "Processes over time"),
    ("top-talkers", {}, "Who moved the most"),
    ("service-map", {}, "Who depends on whom"),
    ("top-ports", {}, "Ports"),
    ("connection-rate", {}, "Connections opened"),
    ("concurrency", {}, "Connections open at once"),
    ("latency-by-service", {}, "Latency by service"),
    ("retransmits-by-path", {}, "Retransmits by path"),
    ("connection-failures", {}, "Connections that failed"),
    ("resets", {}, "Resets and timeouts"),
    ("elephants", {}, "Largest flows"),
    ("process-totals", {}, "Processes"),
    ("port-use", {}, "Ephemeral ports"),
    ("event-totals", {}, "Events"),
    ("host-gauges", {}, "The host against its limits"),
    ("losses", {}, "What the recorder lost"),
    ("gaps", {}, "When nothing was recorded"),
)
_FACTS = (
    "flows", "bytes", "rate", "packets", "retransmit_ratio", "connect_failures", "resets", "rtt_median", "clients",
    "services", "processes", "hosts",
)  # fmt: skip


def page(session: Session, scan: Scan) -> Page:
    """The page; sections whose table the trace lacks are left out and named."""
    scan.require("flows")
    missing: dict[str, None] = {}
    found: list[Part] = []
    for name, parameters, title in SECTIONS:
        try:
            result = session.query(scan, name, **parameters)
        except MissingTableError as problem:
            missing[str(problem)] = None
            continue
        found.append(parts.of_result(result, session.zone, title=title, command=_command(session, name, parameters)))
    summary = session.query(scan, "summary")
    row = next(iter(summary.rows()))
    shown = {column.name: cell(value, column, session.zone) for column, value in zip(summary.columns, row, strict=True)}
    return Page(
        f"Overview of {parts.traces(session)}",
        facts=[(name.replace("_", " "), shown[name]) for name in _FACTS],
        notes=[*parts.basis(context.of(scan), session.zone), *missing],
        parts=found,
        sources=[catalogue.load("summary", session.query_folders).sql],
        command=parts.command_line(),
    )


def _command(session: Session, name: str, parameters: dict[str, str]) -> str:
    options = [word for key, value in parameters.items() for word in (f"--{key}", value)]
    for option in ("since", "until", "last", "filter", "timezone"):
        if value := getattr(session, option):
            options.append(f"--{option}={value}")
    return shlex.join(["netrec", "analyze", name, *session.traces, *options, *(["--utc"] if session.utc else [])])
