"""What a killed recorder left behind -> Parquet, up to the last whole batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from netrec.errors import NetrecError
from netrec.text import format_size
from netrec.trace import layout
from netrec.trace.writer import PARTIAL_SUFFIX
from recorder.convert import convert
from recorder.rotate import ClosedSpool, iso
from recorder.spool import RESERVE_FILE, SpoolFolder


@dataclass(frozen=True)
class Outcome:
    """What was done about one left-over. `kind`: repaired, finished_before, empty, removed, failed, live."""

    path: Path
    kind: str
    sentence: str
    rows: int = 0
    torn_bytes: int = 0
    file: Path | None = None


def repair_trace(trace: Path) -> Iterator[Outcome]:
    """Repair every spool folder of the trace that nobody holds, one outcome per left-over; never raises for one."""
    spools = trace / layout.SPOOL_FOLDER
    if not spools.is_dir():
        return
    for path in sorted(spools.iterdir()):
        if not path.is_dir():
            continue
        folder = SpoolFolder.acquire(path)
        if folder is None:
            yield Outcome(path, "live", f"{path.name} is being recorded: left alone")
            continue
        try:
            yield from _repair_folder(trace, folder)
        finally:
            folder.close()


def _repair_folder(trace: Path, folder: SpoolFolder) -> Iterator[Outcome]:
    (folder.path / RESERVE_FILE).unlink(missing_ok=True)
    for path in sorted(folder.path.glob(f"*{PARTIAL_SUFFIX}")):
        path.unlink()
        yield Outcome(path, "removed", f"removed {path.name} of {folder.path.name}, a file that was never finished")
    for file in folder.files():
        yield _repair_file(trace, file)


def _repair_file(trace: Path, file: layout.SpoolFile) -> Outcome:
    name = f"{file.folder.name}/{file.path.name}"
    status = file.path.stat()
    try:
        done = convert(trace, ClosedSpool(file, "repaired", iso(status.st_mtime or time.time()), 0, status.st_size))
    except (OSError, NetrecError, pa.ArrowException) as problem:
        return Outcome(file.path, "failed", f"could not repair {name}: {problem}")
    if done.file is None:
        return Outcome(
            file.path,
            "empty",
            f"removed {name}: it held no whole batch ({format_size(done.torn_bytes)} dropped)",
            0,
            done.torn_bytes,
        )
    if done.existed:
        return Outcome(
            file.path, "finished_before", f"removed {name}: its file was already finished", 0, 0, done.file.path
        )
    torn = f", {format_size(done.torn_bytes)} of a torn tail dropped" if done.torn_bytes else ""
    return Outcome(
        file.path,
        "repaired",
        f"repaired {name}: {done.file.rows} rows saved{torn}",
        done.file.rows,
        done.torn_bytes,
        done.file.path,
    )
