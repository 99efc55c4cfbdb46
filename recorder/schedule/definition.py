"""A schedule as it is kept: one folder for each, with schedule.json, runs.ndjson, the lock and the log."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from netrec.errors import UsageError

# Another folder, for tests and for hosts that keep their state elsewhere.
VARIABLE = "NETREC_SCHEDULE_FOLDER"
DEFAULT_FOLDER = Path("/var/lib/netrec/schedules")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def folder() -> Path:
    """Where the schedules are kept."""
    return Path(os.environ.get(VARIABLE) or DEFAULT_FOLDER)


@dataclass(frozen=True)
class Schedule:
    """What to run and when: `arguments` follow `netrec record`, in `directory`. Times are ISO 8601, UTC."""

    name: str
    cron: str
    arguments: list[str]
    directory: str
    starter: Literal["cron", "systemd"]
    created: str
    command: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """The schedule's own folder."""
        return folder() / self.name

    def save(self) -> None:
        """Write it whole or not at all; raises `UsageError` when there is no permission."""
        try:
            self.home.mkdir(parents=True, exist_ok=True, mode=0o750)
            replace_file(self.home / "schedule.json", json.dumps(asdict(self), indent=2) + "\n", 0o640)
        except OSError as problem:
            raise UsageError(
                f"the schedule cannot be kept in {self.home} ({problem.strerror})", "run as root"
            ) from None

    def delete(self, *, purge: bool) -> None:
        """Forget it; its log and history stay unless `purge`."""
        (self.home / "schedule.json").unlink(missing_ok=True)
        if purge:
            shutil.rmtree(self.home, ignore_errors=True)


def check_name(name: str) -> str:
    """A name that may stand in /etc/cron.d and in a unit's name; raises `UsageError` for another."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot name a schedule", "use letters, digits, - and _, at most 64")
    return name


def load(name: str) -> Schedule:
    """The schedule of that name; raises `UsageError` that lists those that exist."""
    path = folder() / check_name(name) / "schedule.json"
    try:
        return Schedule(**json.loads(path.read_text()))
    except FileNotFoundError:
        known = ", ".join(names())
        hint = f"the schedules are {known}" if known else "netrec schedule add makes one"
        raise UsageError(f"there is no schedule {name!r}", hint) from None
    except (OSError, TypeError, ValueError) as problem:
        raise UsageError(
            f"{path} cannot be read ({problem})", f"netrec schedule remove {name}, and add it again"
        ) from None


def names() -> list[str]:
    """The names of all schedules, sorted."""
    return sorted(path.parent.name for path in folder().glob("*/schedule.json"))


def replace_file(path: Path, content: str, mode: int) -> None:
    """Write a file whole or not at all. Cron skips the temporary one: its name begins with a dot."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(content)
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
