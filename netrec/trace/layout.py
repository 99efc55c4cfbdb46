"""File name <-> (table, host, capture, sequence, time).

    <trace>/<table>/date=2026-11-22/hour=20/<host>-<capture>-<sequence>.parquet
    <trace>/<table>/date=2026-11-22/hour=20/<host>-<capture>-<first>_<last>.parquet      files that were merged
    <trace>/.spool/<host>-<capture>/lock                       held (flock) by the running recorder
    <trace>/.spool/<host>-<capture>/<table>-<sequence>.arrows  Arrow IPC stream being recorded
    <trace>/.compact/lock                                      held (flock) by who merges files

A capture id holds no dash, a host name may: names are parsed from the right. The partition is the UTC
hour in which the file was opened; a file never spans two hours.

A merged file holds all of <first> to <last>. What it replaces is removed after it has its name; a file whose numbers
lie within a wider one's beside it is therefore no part of the trace any more, whoever still finds it (`replaced`).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SPOOL_FOLDER = ".spool"
COMPACT_FOLDER = ".compact"
LOCK_FILE = "lock"
FILE_MODE = 0o640
FOLDER_MODE = 0o750

_HOST = re.compile(r"[^A-Za-z0-9._-]+")
_FILE = re.compile(
    r"^(?P<table>[a-z][a-z0-9_]*)/date=(?P<date>\d{4}-\d\d-\d\d)/hour=(?P<hour>\d\d)/"
    r"(?P<host>[^/]+)-(?P<capture>[0-9A-Za-z]+)-(?P<sequence>\d{6,})(_(?P<last>\d{6,}))?\.parquet$"
)
_NUMBERS = re.compile(r"-(?P<first>\d{6,})(_(?P<last>\d{6,}))?\.parquet$")
_SPOOL = re.compile(r"^(?P<table>[a-z][a-z0-9_]*)-(?P<sequence>\d{6,})\.arrows$")


def new_capture_id(now: datetime | None = None) -> str:
    """An id that sorts by time and is unique per recorder, e.g. `20261122T203015Z4f2a91`; holds no dash."""
    import secrets  # reading a trace needs none

    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}{secrets.token_hex(3)}"


def host_for_path(host: str) -> str:
    """A host name as part of a file name: anything unusual becomes `_`."""
    return _HOST.sub("_", host).strip(".") or "host"


@dataclass(frozen=True, order=True)
class TraceFile:
    """What the name of a finished file says. `hour` is the start of its UTC hour.

    `last`: the last number that a merged file holds, from `sequence` on; -1 for a file as it was recorded.
    """

    table: str
    hour: datetime
    host: str
    capture: str
    sequence: int
    last: int = -1

    @property
    def numbers(self) -> range:
        """The sequence numbers that it holds."""
        return range(self.sequence, max(self.sequence, self.last) + 1)

    @property
    def relative(self) -> Path:
        """Path below the trace folder."""
        last = f"_{self.last:06d}" if self.last >= 0 else ""
        name = f"{host_for_path(self.host)}-{self.capture}-{self.sequence:06d}{last}.parquet"
        return Path(self.table, f"date={self.hour:%Y-%m-%d}", f"hour={self.hour:%H}", name)

    @classmethod
    def parse(cls, relative: Path | str) -> TraceFile | None:
        """The file that a path below the trace folder names; None when it is not of this layout."""
        match = _FILE.match(Path(relative).as_posix())
        if not match:
            return None
        try:
            hour = datetime.fromisoformat(f"{match['date']}T{match['hour']}+00:00")
        except ValueError:
            return None
        last = int(match["last"] or -1)
        return cls(match["table"], hour, match["host"], match["capture"], int(match["sequence"]), last)


@dataclass(frozen=True, order=True)
class SpoolFile:
    """What the path of a spool file says."""

    folder: Path
    table: str
    sequence: int

    @property
    def path(self) -> Path:
        """Absolute when `folder` is."""
        return self.folder / f"{self.table}-{self.sequence:06d}.arrows"

    @classmethod
    def parse(cls, path: Path) -> SpoolFile | None:
        """The spool file that a path names; None when it is something else."""
        match = _SPOOL.match(path.name)
        return cls(path.parent, match["table"], int(match["sequence"])) if match else None


def replaced(names: Collection[str]) -> dict[str, str]:
    """Of the names of one folder's files, those that a merged file replaces -> the name of that file."""
    merged: dict[str, list[tuple[int, int, str]]] = {}
    numbered = [(name, match) for name in names if (match := _NUMBERS.search(name))]
    for name, match in numbered:
        if match["last"]:
            merged.setdefault(name[: match.start()], []).append((int(match["first"]), int(match["last"]), name))
    if not merged:
        return {}
    found = {}
    for name, match in numbered:
        first, last = int(match["first"]), int(match["last"] or match["first"])
        for low, high, wider in merged.get(name[: match.start()], []):
            if low <= first and last <= high and name != wider:
                found[name] = wider
    return found


def spool_folder(trace: Path, host: str, capture: str) -> Path:
    """Where one running capture keeps what it has not yet turned into Parquet."""
    return trace / SPOOL_FOLDER / f"{host_for_path(host)}-{capture}"
