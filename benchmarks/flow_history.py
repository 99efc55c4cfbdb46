"""One day of the same synthetic flows twice: as a netrec trace and as an nfdump file; made once and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import ipfix
from benchmarks.harness import CACHE, PeerMissing
from netrec.trace import fields, tables, writer
from recorder.sources.synthetic import flows
from recorder.sources.synthetic import history as history_writer

DAY = 86400.0
START = datetime(2026, 3, 2, tzinfo=UTC)
# What nfdump's records hold: the flow, its times and its counters.
SAME_INFORMATION = (
    *("start_time", "end_time", "transport", "network_type"),
    *("client_address", "client_port", "server_address", "server_port"),
    *("client_bytes", "server_bytes", "client_packets", "server_packets"),
)


@dataclass(frozen=True)
class History:
    """Where the flows are. `trace` has every column that the recorder fills, `plain` only what nfdump can hold."""

    flows: int
    trace: Path
    plain: Path
    nfdump: Path | None
    note: str


def history(count: int) -> History:
    """The flows, from the cache or made now; without nfcapd there is no nfdump file, and the note says so."""
    kept = CACHE / f"history-{count}"
    folder = kept / digest()
    stamp = folder / "complete.json"
    if not stamp.exists():
        shutil.rmtree(kept, ignore_errors=True)
        folder.mkdir(parents=True)
        nfdump, note = _make(folder, count)
        stamp.write_text(json.dumps({"nfdump": nfdump and str(nfdump), "note": note}))
    found = json.loads(stamp.read_text())
    nfdump = Path(found["nfdump"]) if found["nfdump"] else None
    return History(count, folder / "trace", folder / "plain", nfdump, found["note"])


def digest() -> str:
    """Of the code that decides what is in the files: when it changes, they are made anew."""
    modules = (flows, history_writer, writer, tables, fields, ipfix)
    return hashlib.sha256(b"".join(Path(module.__file__ or "").read_bytes() for module in modules)).hexdigest()[:12]


def _make(folder: Path, count: int) -> tuple[Path | None, str]:
    try:
        collector: ipfix.Collector | None = ipfix.Collector(folder / "nfdump")
    except PeerMissing as missing:
        collector, note = None, f"no comparison with nfdump: {missing}"
    total = 0

    def sent() -> Iterator[pa.RecordBatch]:
        nonlocal total
        for batch in flows.flow_batches(count, start=START, duration=DAY, daily_swing=0.5):
            yield batch
            total += sum(pc.sum(batch.column(name)).as_py() for name in ("client_bytes", "server_bytes"))
            if collector:
                collector.send(batch)

    def plain(trace: Path) -> Iterator[pa.RecordBatch]:
        for file in sorted((trace / "flows").rglob("*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(columns=list(SAME_INFORMATION)):
                columns = {name: batch.column(name) for name in SAME_INFORMATION}
                yield tables.batch(tables.FLOWS, columns, batch.num_rows)

    write = partial(history_writer.write_batches, start=START, duration=DAY, host="benchmark")
    try:
        write(folder / "trace", sent())
        history_writer.write_batches(
            folder / "plain", plain(folder / "trace"), start=START, duration=DAY, host="benchmark"
        )
        if collector is None:
            return None, note
        file = collector.finish()
    finally:
        if collector:
            collector.close()
    counted = ipfix.count(file)
    if (counted.get("flows"), counted.get("bytes")) != (count, total):
        raise RuntimeError(f"nfdump holds {counted}, not {count} flows of {total} bytes")
    return file, f"the same flows in both, as `nfdump -I` counts them: {count:,} flows, {total:,} bytes both ways"
