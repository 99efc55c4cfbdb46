"""What a trace holds, from the footers of its files: captures, tables, and the times without recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from analyze import files, spool
from analyze.result import microseconds
from netrec.errors import TraceError
from netrec.trace.metadata import FileMetadata

# Files of one capture follow each other within this time; longer is a gap.
_CONTIGUOUS = 2_000_000


@dataclass
class Capture:
    """One run of a recorder on one host. Times are microseconds since 1970, UTC; sizes are bytes on disk."""

    trace: Path
    host: str
    capture: str
    source: str = ""
    version: str = ""
    filter: str = ""
    command_line: str = ""
    files: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    size: int = 0
    lost: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)
    sequences: dict[str, list[int]] = field(default_factory=dict)
    last: tuple[int, str] = (-1, "")
    spools: list[spool.Spool] = field(default_factory=list)

    @property
    def state(self) -> str:
        """`recording`, `left over` (killed: its spool waits for repair), `ended`, or `unfinished`."""
        if self.spools:
            return "recording" if self.spools[0].running else "left over"
        return "ended" if self.last[1] == "end" else "unfinished"

    @property
    def since(self) -> int | None:
        """When its oldest file was opened."""
        return min((start for start, _ in self.spans), default=None)

    @property
    def until(self) -> int | None:
        """When its newest file was closed."""
        return max((end for _, end in self.spans), default=None)

    def holes(self) -> list[tuple[str, int, int]]:
        """Sequence numbers missing between two that are there, as (table, first, last); expired ones are no holes."""
        found = []
        for table, numbers in sorted(self.sequences.items()):
            ordered = sorted(set(numbers))
            for before, after in pairwise(ordered):
                if after > before + 1:
                    found.append((table, before + 1, after - 1))
        return found


@dataclass
class Inventory:
    """Everything found in the trace folders; `sizes` is table -> (files, rows, bytes)."""

    captures: list[Capture]
    sizes: dict[str, tuple[int, int, int]]
    skipped: list[files.Skipped]


def take(folders: Iterable[Path]) -> Inventory:
    """Read every footer. Raises `TraceError` when a folder is no trace."""
    captures: dict[tuple[Path, str, str], Capture] = {}
    sizes: dict[str, tuple[int, int, int]] = {}
    skipped: list[files.Skipped] = []
    for folder in folders:
        files.check_folder(folder)
        tables = files.tables_of([folder])
        for table in tables:
            good, bad = files.open_all(folder, table)
            skipped += bad
            for checked in good:
                try:
                    about = checked.footer.file
                except TraceError as problem:
                    skipped.append(files.Skipped(checked.path, str(problem)))
                    continue
                key = (folder, checked.name.host, checked.name.capture)
                _add(captures.setdefault(key, Capture(*key)), table, checked, about)
                count, rows, size = sizes.get(table, (0, 0, 0))
                sizes[table] = (count + 1, rows + about.rows, size + checked.footer.size)
        for found in spool.find(folder, "*"):
            _, host, capture, _ = found.identity
            captures.setdefault((folder, host, capture), Capture(folder, host, capture)).spools.append(found)
    return Inventory([captures[key] for key in sorted(captures)], sizes, skipped)


def gaps(captures: list[Capture]) -> list[tuple[str, int, int]]:
    """Times in which no capture of a host recorded, between its first and its last, as (host, start, end)."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for capture in captures:
        spans.setdefault(capture.host, []).extend(capture.spans)
    found = []
    for host, ordered in sorted(spans.items()):
        reached: int | None = None
        for start, end in sorted(ordered):
            if reached is not None and start > reached + _CONTIGUOUS:
                found.append((host, reached, start))
            reached = max(end, reached or end)
    return found


def _add(capture: Capture, table: str, file: files.DataFile, about: FileMetadata) -> None:
    capture.source, capture.version = about.capture.source, about.capture.netrec_version
    capture.filter, capture.command_line = about.capture.filter, about.capture.command_line
    capture.files += 1
    capture.rows[table] = capture.rows.get(table, 0) + about.rows
    capture.size += file.footer.size
    # Every table's file carries the interval's losses: count them once.
    capture.lost += about.events_lost if table == "flows" else 0
    for original in about.originals:
        capture.sequences.setdefault(table, []).append(original.sequence)
        capture.last = max(capture.last, (original.sequence, original.closed))
        try:
            opened, closed = datetime.fromisoformat(original.opened), datetime.fromisoformat(original.closed_time)
        except ValueError:
            continue
        capture.spans.append((microseconds(opened), microseconds(closed)))
