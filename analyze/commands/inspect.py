"""`netrec inspect`: what a trace holds, and what it lacks."""

from __future__ import annotations

import json
import sys
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from analyze import inventory, own_tables
from analyze.moments import iso, show
from analyze.render.table import write_rows
from analyze.result import Column
from analyze.scan import Scan
from analyze.schema_sql import sql_type
from analyze.window import zone
from netrec.errors import NetrecError
from netrec.text import format_duration, format_size, printable

_CAPTURES = [
    Column("host", "VARCHAR"), Column("capture", "VARCHAR"), Column("source", "VARCHAR"), Column("from", "TIMESTAMP"),
    Column("to", "TIMESTAMP"), Column("state", "VARCHAR"), Column("files", "BIGINT", "count"),
    Column("flow_rows", "BIGINT", "rows"), Column("size", "BIGINT", "bytes"), Column("lost", "BIGINT", "events"),
]  # fmt: skip
_TABLES = [
    Column("table", "VARCHAR"), Column("files", "BIGINT", "count"), Column("rows", "BIGINT", "rows"),
    Column("size", "BIGINT", "bytes"), Column("bytes_per_row", "DOUBLE"),
]  # fmt: skip

_FIELDS = [
    Column("column", "VARCHAR"), Column("type", "VARCHAR"), Column("unit", "VARCHAR"), Column("meaning", "VARCHAR"),
]  # fmt: skip


@click.command("inspect")
@click.argument("traces", nargs=-1, metavar="[TRACE]...")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option("--utc", is_flag=True, help="Show times in UTC.")
@click.option("--timezone", metavar="ZONE", help="Show times in this zone.")
def command(traces: tuple[str, ...], as_json: bool, utc: bool, timezone: str | None) -> None:
    """Show what a trace holds: captures, hosts, tables, times, gaps, losses, sizes, and bytes per flow.

    Tables of your own programs (record --program) are shown with what their columns mean.
    """
    folders = [Path(trace).absolute() for trace in traces or ("trace",)]
    found = inventory.take(folders)
    report = _report(found, folders)
    if as_json:
        print(json.dumps(_for_json(report), indent=2))
        return
    local = UTC if utc else zone(timezone)
    colour = sys.stdout.isatty()
    rows = [[capture[column.name] for column in _CAPTURES] for capture in report["captures"]]
    write_rows(_CAPTURES, rows, sys.stdout, local, colour)
    print()
    write_rows(_TABLES, [list(table.values()) for table in report["tables"]], sys.stdout, local, colour)
    print()
    for name, table in report["definitions"].items():
        print(printable(f"{name}: {table['meaning']} ({table['program']})"))
        write_rows(_FIELDS, [list(column.values()) for column in table["columns"]], sys.stdout, local, colour)
        print()
    for line in _lines(report, local):
        print(printable(line))


def _report(found: inventory.Inventory, folders: list[Path]) -> dict[str, Any]:
    tables = [
        {"table": name, "files": files, "rows": rows, "size": size, "bytes_per_row": size / rows if rows else None}
        for name, (files, rows, size) in sorted(found.sizes.items())
    ]
    captures = [
        {
            "trace": str(capture.trace),
            "host": capture.host,
            "capture": capture.capture,
            "source": capture.source,
            "from": capture.since,
            "to": capture.until,
            "state": capture.state,
            "files": capture.files,
            "flow_rows": capture.rows.get("flows", 0),
            "size": capture.size,
            "lost": capture.lost,
            "netrec_version": capture.version,
            "filter": capture.filter,
            "command_line": capture.command_line,
            "missing_files": [f"{table} {first}-{last}" for table, first, last in capture.holes()],
            "spool_rows": sum(one.rows for one in capture.spools if one.file.table == "flows"),
        }
        for capture in found.captures
    ]
    return {
        "captures": captures,
        "tables": tables,
        "definitions": {name: _definition(table) for name, table in own_tables.find(folders).items()},
        "gaps": [{"host": host, "from": start, "to": end} for host, start, end in inventory.gaps(found.captures)],
        "skipped": [str(skipped) for skipped in found.skipped],
        **_from_rows(folders),
    }


def _definition(table: own_tables.OwnTable) -> dict[str, Any]:
    """What a trace says of a table that is not built in."""
    return {
        "meaning": table.meaning,
        "program": table.origin.program,
        "description": table.origin.description,
        "program_sha256": table.origin.sha256,
        "columns": [
            {"column": field.name, "type": sql_type(field.type), "unit": field.unit, "meaning": field.meaning}
            for field in table.fields
        ],
    }


def _from_rows(folders: list[Path]) -> dict[str, Any]:
    """What only the rows say: flows, owners known, gaps that the recorder wrote down."""
    answer: dict[str, Any] = {"flows": None, "owners_known": None, "recorder_gaps": []}
    try:
        scan = Scan(folders)
        if scan.has("flows"):
            flows, known = scan.fetch(
                "select sum(flows)::BIGINT, sum(case when process_name is not null then flows end)::BIGINT from flow"
            )[0]
            answer |= {"flows": flows, "owners_known": (known or 0) / flows if flows else None}
        if scan.has("health"):
            # A capture says it once for each of its sources.
            rows = scan.fetch(
                "select distinct host, start_time, end_time, reason from health where kind = 'gap' order by all"
            )
            answer["recorder_gaps"] = [
                {"host": host, "from": start, "to": end, "reason": reason} for host, start, end, reason in rows
            ]
    except NetrecError as problem:
        answer["unreadable"] = str(problem)
    return answer


def _lines(report: dict[str, Any], local: Any) -> list[str]:
    lines = []
    flows = report["flows"]
    size = sum(table["size"] for table in report["tables"] if table["table"] == "flows")
    if flows:
        lines.append(f"{flows:,} flows, {size / flows:.1f} bytes per flow on disk ({format_size(size)})")
        lines.append(f"owner process known for {report['owners_known']:.1%} of the flows")
    lost = sum(capture["lost"] for capture in report["captures"])
    lines.append(f"lost {lost:,} events" if lost else "lost no events")
    for gap in [*report["gaps"], *report["recorder_gaps"]]:
        because = f" ({gap['reason']})" if gap.get("reason") else ""
        length = format_duration((gap["to"] - gap["from"]) / 1e6)
        lines.append(
            f"{gap['host']} not recording {show(gap['from'], local)} to {show(gap['to'], local)}, {length}{because}"
        )
    for capture in report["captures"]:
        if capture["filter"]:
            lines.append(f"{capture['host']} {capture['capture']} recorded only what matches: {capture['filter']}")
        lines += [f"{capture['host']} {capture['capture']}: missing files {hole}" for hole in capture["missing_files"]]
        if capture["state"] == "recording":
            lines.append(
                f"{capture['host']} {capture['capture']} is recording: {capture['spool_rows']:,} rows in its spool"
            )
        if capture["state"] == "left over":
            lines.append(
                f"{capture['host']} {capture['capture']} was killed: {capture['spool_rows']:,} rows in its spool, "
                f"run netrec repair {capture['trace']}"
            )
    return [*lines, *report["skipped"], *([report["unreadable"]] if "unreadable" in report else [])]


def _for_json(report: dict[str, Any]) -> dict[str, Any]:
    for part in ("captures", "gaps", "recorder_gaps"):
        for entry in report[part]:
            for edge in ("from", "to"):
                entry[edge] = iso(entry[edge]) if entry[edge] is not None else None
    return report
