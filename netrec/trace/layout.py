"""File name <-> (table, host, capture, sequence, time).

    <trace>/<table>/date=2026-11-22/hour=20/<host>-<capture>-<sequence>.parquet
    <trace>/.spool/<host>-<capture>/lock                       held (flock) by the running recorder
    <trace>/.spool/<host>-<capture>/<table>-<sequence>.arrows  Arrow IPC stream being recorded

A capture id holds no dash, a host name may: names are parsed from the right. The partition is the UTC
hour in which the file was opened; a file never spans two hours.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

SPOOL_FOLDER = ".spool"
LOCK_FILE = "lock"
FILE_MODE = 0o640
FOLDER_MODE = 0o750

_HOST = re.compile(r"[^A-Za-z0-9._-]+")
_FILE = re.compile(
    r"^(?P<table>[a-z][a-z0-9_]*)/date=(?P<date>\d{4}-\d\d-\d\d)/hour=(?P<hour>\d\d)/"
    r"(?P<host>[^/]+)-(?P<capture>[0-9A-Za-z]+)-(?P<sequence>\d{6,})\.parquet$"
)
_SPOOL = re.compile(r"^(?P<table>[a-z][a-z0-9_]*)-(?P<sequence>\d{6,})\.arrows$")


def new_capture_id(now: datetime | None = None) -> str:
    """An id that sorts by time and is unique per recorder, e.g. `20261122T203015Z4f2a91`; holds no dash."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}{secrets.token_hex(3)}"


def host_for_path(host: str) -> str:
    """A host name as part of a file name: anything unusual becomes `_`."""
    return _HOST.sub("_", host).strip(".") or "host"


@dataclass(frozen=True, order=True)
class TraceFile:
    """What the name of a finished file says. `hour` is the start of its UTC hour."""

    table: str
    hour: datetime
    host: str
    capture: str
    sequence: int

    @property
    def relative(self) -> Path:
        """Path below the trace folder."""
        name = f"{host_for_path(self.host)}-{self.capture}-{self.sequence:06d}.parquet"
        return Path(self.table, f"date={self.hour:%Y-%m-%d}", f"hour={self.hour:%H}", name)

    @classmethod
    def parse(cls, relative: Path | str) -> TraceFile | None:
        """The file that a path below the trace folder names; None when it is not of this layout."""
        match = _FILE.match(Path(relative).as_posix())
        if not match:
            return None
        try:
            hour = datetime.strptime(f"{match['date']} {match['hour']}", "%Y-%m-%d %H").replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(match["table"], hour, match["host"], match["capture"], int(match["sequence"]))


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


def spool_folder(trace: Path, host: str, capture: str) -> Path:
    """Where one running capture keeps what it has not yet turned into Parquet."""
    return trace / SPOOL_FOLDER / f"{host_for_path(host)}-{capture}"
