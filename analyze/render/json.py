"""One JSON object: the rows, and what they rest on.

    {"query": "top-talkers", "window": {"since": "...Z", "until": "...Z"}, "events": {"seen": 12345, "lost": 0},
     "sampling": 1, "sampling_least": 1, "sampling_error": {}, "steps": [{"time": ..., "kind": ..., "reason": ...}],
     "gaps": [{"since": ..., "until": ..., "reason": ...}], "notes": [], "skipped": [],
     "columns": [{"name": "bytes", "type": "BIGINT", "unit": "bytes"}], "rows": [{"bytes": 1234, ...}]}

Numbers are raw, times are ISO 8601 in UTC. The rows are under `rows`: `jq '.rows[]'`; `ndjson` gives them alone.
"""

from __future__ import annotations

import json
from datetime import tzinfo
from typing import IO, Any

from analyze.moments import iso
from analyze.render.ndjson import row_object
from analyze.result import Result


def write(result: Result, stream: IO[str], zone: tzinfo | None, colour: bool) -> None:
    """Write the object, one row a line."""
    context = result.context
    head: dict[str, Any] = {
        "query": result.name,
        "window": {"since": _time(context.since), "until": _time(context.until)},
        "events": {"seen": context.seen, "lost": context.lost},
        "sampling": context.sampling,
        "sampling_least": context.least_sampling,
        "sampling_error": context.sampling_error,
        "steps": [{"time": _time(time), "kind": kind, "reason": reason} for time, kind, reason in context.steps],
        "gaps": [
            {"since": _time(since), "until": _time(until), "reason": reason} for since, until, reason in context.gaps
        ],
        "notes": context.notes,
        "skipped": context.skipped,
        "columns": [{"name": column.name, "type": column.type, "unit": column.unit} for column in result.columns],
    }
    stream.write(json.dumps(head)[:-1] + ', "rows": [')
    separator = "\n"
    for row in result.rows():
        stream.write(separator + json.dumps(row_object(row, result.columns)))
        separator = ",\n"
    stream.write("\n]}\n")


def _time(value: int | None) -> str | None:
    return None if value is None else iso(value)
