"""What every file's footer says about itself, as Parquet key-value metadata.

Keys carry the prefix `netrec.`; values are text, lists and objects are JSON. A file's metadata suffices to
know who recorded it, how, and what was lost, without any other file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from netrec.errors import TraceError

FORMAT_VERSION = 2
PREFIX = "netrec."


@dataclass(frozen=True)
class CaptureMetadata:
    """What stays the same for all files of one capture.

    `clock_offset_us`: CLOCK_REALTIME minus CLOCK_BOOTTIME at the start, microseconds. `settings`: the
    recorder's settings in force that change what is in the data (filter, sampling, active timeout, ...).
    `tables`: those that this capture records, also when nothing happened that would have filled them (empty: not
    known). `definitions`: the tables among them that are not built in, as `netrec.trace.definition` describes them.
    """

    host: str
    capture: str
    source: str
    host_addresses: list[str] = field(default_factory=list)
    boot_id: str = ""
    kernel: str = ""
    filter: str = ""
    command_line: str = ""
    clock_offset_us: int = 0
    capture_start: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)
    definitions: dict[str, Any] = field(default_factory=dict)
    netrec_version: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class FileMetadata:
    """What a finished file adds. `closed`: interval, size, hangup, end, disk_full, clock_step, repaired.

    `parts`: of a file that was merged from several, what differed between their footers (`PART`), in order of their
    numbers; rows and losses are then sums, it was opened when the first was and closed as the last was.
    """

    capture: CaptureMetadata
    table: str
    sequence: int
    rows: int
    events_lost: int
    opened: str
    closed: str
    closed_time: str
    parts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def originals(self) -> list[FileMetadata]:
        """The footers of the files that it was merged from as they were; of others, itself."""
        return [replace(self, parts=[], **part) for part in self.parts] or [self]

    @classmethod
    def merged(cls, files: Sequence[FileMetadata]) -> FileMetadata:
        """The footer of one file in the place of several, whose numbers follow each other."""
        originals = [original for one in files for original in one.originals]
        first, last = originals[0], originals[-1]
        return replace(
            first,
            rows=sum(one.rows for one in originals),
            events_lost=sum(one.events_lost for one in originals),
            closed=last.closed,
            closed_time=last.closed_time,
            parts=[{key: getattr(one, key) for key in PART} for one in originals],
        )


PART = ("sequence", "rows", "events_lost", "opened", "closed", "closed_time")


def encode(metadata: CaptureMetadata | FileMetadata) -> dict[bytes, bytes]:
    """Footer keys and values; a `FileMetadata` is written flat, with its capture's keys beside its own."""
    flat = asdict(metadata)
    if isinstance(metadata, FileMetadata):
        flat["capture_id"] = flat["capture"].pop("capture")
        flat = {**flat.pop("capture"), **flat}
        if not metadata.parts:
            del flat["parts"]
    else:
        flat["capture_id"] = flat.pop("capture")
    return {(PREFIX + key).encode(): _text(value).encode() for key, value in flat.items()}


def decode_capture(raw: dict[bytes, bytes] | None) -> CaptureMetadata:
    """The capture's part of a footer or a spool's schema; raises `TraceError` when it is not netrec's."""
    flat = _flat(raw)
    return _build(CaptureMetadata, {**flat, "capture": flat["capture_id"]})


def decode_file(raw: dict[bytes, bytes] | None) -> FileMetadata:
    """A finished file's footer; raises `TraceError` when it is not netrec's or says something impossible."""
    flat = _flat(raw)
    described = _build(FileMetadata, {**flat, "capture": decode_capture(raw)})
    if not all(isinstance(part, dict) and part.keys() == set(PART) for part in described.parts):
        raise TraceError("its footer cannot be read (netrec.parts)")
    return described


def format_version(raw: dict[bytes, bytes] | None) -> int:
    """The format version that a footer states; raises `TraceError` when it states none."""
    try:
        return int((raw or {})[b"netrec.format_version"])
    except (KeyError, ValueError):
        raise TraceError("not a netrec file: its footer has no netrec.format_version") from None


def _flat(raw: dict[bytes, bytes] | None) -> dict[str, str]:
    version = format_version(raw)
    if version > FORMAT_VERSION:
        raise TraceError(
            f"written in trace format {version}, this netrec reads up to {FORMAT_VERSION}",
            "install a newer netrec",
        )
    flat = {
        key.decode().removeprefix(PREFIX): value.decode(errors="replace")
        for key, value in (raw or {}).items()
        if key.startswith(PREFIX.encode())
    }
    if "capture_id" not in flat:
        raise TraceError("not a netrec file: its footer has no netrec.capture_id")
    return flat


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _build(cls: Any, flat: dict[str, Any]) -> Any:
    values: dict[str, Any] = {}
    try:
        for item in fields(cls):
            if item.name in flat:
                value = flat[item.name]
                is_text = item.type == "str" or not isinstance(value, str)
                values[item.name] = value if is_text else json.loads(value)
        return cls(**values)
    except (TypeError, ValueError) as problem:
        raise TraceError(f"its footer cannot be read ({problem})") from None
