"""A week of hourly captures from cron, before and after `netrec compact`: files, bytes, and the time of top-talkers.

Each is ten minutes long and has three files a table, as `netrec schedule` leaves them with the default rotation.
"""

from __future__ import annotations

import dataclasses
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.harness import NETREC, Options, Report, Target, in_turns, measure, median, ratios, scratch
from netrec.trace import layout, metadata, tables
from netrec.trace.writer import FileWriter
from recorder.sources.synthetic.flows import flow_batches

HOURS, FILES, FLOWS, ROUNDS = 7 * 24, 3, 200, 5
START = datetime(2026, 3, 1, tzinfo=UTC)
QUESTION = ("analyze", "top-talkers", "--by", "service", "--format", "csv")


def _captures(trace: Path, hours: int) -> None:
    trace.mkdir()
    for number in range(hours):
        begin = START + timedelta(hours=number)
        capture = metadata.CaptureMetadata("web-1", layout.new_capture_id(begin), "ebpf", tables=["flows", "health"])
        for part in range(FILES):
            opened = begin + timedelta(seconds=200 * part)
            closed = "end" if part == FILES - 1 else "interval"
            ended = opened + timedelta(seconds=200)
            about = metadata.FileMetadata(
                capture, "flows", part, FLOWS, 0, opened.isoformat(), closed, ended.isoformat()
            )
            flows = FileWriter(trace, layout.TraceFile("flows", begin, "web-1", capture.capture, part), trace)
            for batch in flow_batches(FLOWS, start=opened, duration=200):
                flows.write(batch)
            flows.finish(dataclasses.replace(about, rows=flows.rows))
            health = FileWriter(trace, layout.TraceFile("health", begin, "web-1", capture.capture, part), trace)
            health.write(tables.batch(tables.HEALTH, _interval(opened, ended), 1))
            health.finish(dataclasses.replace(about, table="health", rows=1))


def _interval(opened: datetime, ended: datetime) -> dict[str, object]:
    import pyarrow as pa

    values = {"start_time": opened, "end_time": ended, "kind": "interval", "events_seen": FLOWS, "events_lost": 0}
    types = {field.name: field.type for field in tables.HEALTH.fields}
    plain = {name: getattr(type, "value_type", type) for name, type in types.items()}
    return {name: pa.array([value], plain[name]) for name, value in values.items()}


def run(options: Options) -> Report:
    report = Report(["trace", "files", "MB", "top-talkers wall s"])
    with scratch() as folder:
        before, after = folder / "before", folder / "after"
        _captures(before, options.size(HOURS, 24))
        shutil.copytree(before, after)
        merged = measure([NETREC, "compact", after])
        ways = {
            name: (lambda trace=trace: measure([NETREC, *QUESTION, trace]).wall)
            for name, trace in (("before", before), ("after", after))
        }
        answers = {name: measure([NETREC, *QUESTION, trace]).output for name, trace in (("b", before), ("a", after))}
        taken = in_turns(ways, options.size(ROUNDS, 1))
        for name, trace in (("before", before), ("after", after)):
            sizes = [path.stat().st_size for path in trace.rglob("*.parquet")]
            report.rows.append([name, len(sizes), sum(sizes) / 1e6, median(taken[name])])
    faster = median(ratios(taken, "after", "before"))
    report.targets += [
        Target("files, after against before", report.rows[1][1] / report.rows[0][1], 1.01 / FILES, "x"),
        Target("wall time of top-talkers, after against before", faster, 0.75, "x"),
        Target("answers that differ", int(answers["a"] != answers["b"]), 0),
        Target("most memory of compact", merged.memory / 1e6, 300, "MB"),
    ]
    report.notes.append(
        f"netrec compact: {merged.wall:.0f} s, {merged.cpu / report.rows[0][1] * 1e3:.1f} ms of CPU a file"
    )
    return report
