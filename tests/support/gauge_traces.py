"""Traces of gauges over many days, for the tests of forecasts: invented, in the real format."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from netrec.trace import layout, metadata, tables

START = datetime(2026, 8, 1, tzinfo=UTC)


def write_gauges(folder: Path, gauges: dict[str, tuple[np.ndarray, float]], host: str = "gw-3") -> Path:
    """One reading of each gauge at noon and one (a fifth lower) at night, a day per value: name -> (values, limit)."""
    times, resources, used, limits = [], [], [], []
    days = max(len(values) for values, _ in gauges.values())
    for day in range(days):
        for hour, factor in ((3, 0.8), (12, 1.0)):
            for name, (values, limit) in gauges.items():
                if day < len(values):
                    times.append(START + timedelta(days=day, hours=hour))
                    resources.append(name)
                    used.append(float(values[day]) * factor)
                    limits.append(limit)
    columns = {
        "time": pa.array(times, pa.timestamp("us", tz="UTC")),
        "resource": pa.array(resources),
        "used": pa.array(used, pa.float64()),
        "limit": pa.array(limits, pa.float64()),
        "unit": pa.array(["entry"] * len(times)),
        "source": pa.array(["host"] * len(times)),
        "host": pa.array([host] * len(times)),
    }
    batch = tables.batch(tables.HOST, columns, len(times))
    name = layout.TraceFile("host", START, host, "20260801T000000Z000001", 0)
    capture = metadata.CaptureMetadata(host, name.capture, "host", capture_start=START.isoformat())
    closed = (START + timedelta(days=days)).isoformat()
    about = metadata.FileMetadata(capture, "host", 0, len(times), 0, START.isoformat(), "end", closed)
    path = folder / name.relative
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(metadata.encode(about)), path)
    return folder
