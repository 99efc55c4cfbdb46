"""Executable and command line of processes, from /proc: the path, and of the command line only a keyed hash.

A command line may carry passwords. It is never stored: what is kept is its HMAC-SHA-256 (RFC 2104), cut to 32
hexadecimal digits. A plain hash could be searched for a short secret by whoever reads the trace; with a key that is not
in the trace it cannot. The key is random for each capture, unless a file holds one that captures and hosts share.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from netrec.errors import UsageError
from recorder.clock import NAMESPACE_OFFSET_NS, boot_ns

LEAST_KEY, MOST_KEY = 16, 4096
DIGITS = 32
_CACHE = 16384
# For so long the details of a process that is gone are taken for those of the one that had its number and name.
_REMEMBER_NS = 60_000_000_000
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Details:
    """Path of the executable and keyed hash of the command line; None: not known."""

    executable: str | None = None
    command_hash: str | None = None

    @property
    def in_exec(self) -> bool:
        """Whether it was read in the middle of exec(): the program is the new one, its arguments are not there yet."""
        return self.executable is not None and self.command_hash is None


@dataclass
class _Known:
    details: Details
    started: int
    seen: int


NOTHING = Details()


def read_key(path: Path) -> bytes:
    """A key for `ProcessDetails`: the content of a file, white space at its ends aside. Raises `UsageError`."""
    try:
        key = path.read_bytes().strip()
    except OSError as problem:
        raise UsageError(
            f"--process-key {path} cannot be read ({problem.strerror})", f"openssl rand -hex 32 > {path}"
        ) from None
    if not LEAST_KEY <= len(key) <= MOST_KEY:
        raise UsageError(
            f"--process-key {path} holds {len(key):,} bytes: a key has {LEAST_KEY} to {MOST_KEY:,}",
            f"openssl rand -hex 32 > {path}",
        )
    if path.stat().st_mode & 0o077:
        raise UsageError(f"--process-key {path} can be read by others than its owner", f"chmod 600 {path}")
    return key


class ProcessDetails:
    """Details of processes by number, with a bounded memory: what was read once outlives the process for a while."""

    def __init__(self, key: bytes | None = None, proc: Path = Path("/proc")) -> None:
        self._key = key or secrets.token_bytes(32)
        self._proc = proc
        self._known: OrderedDict[tuple[int, bytes], _Known] = OrderedDict()

    def of(self, pid: int, name: bytes, time_ns: int) -> Details:
        """Of the process that had this number and command name at a time (ns, CLOCK_BOOTTIME).

        A process that began later, or whose name is another, only has the number: nothing is said then.
        """
        now = boot_ns()
        known = self._known.get((pid, name))
        current = self._identity(pid)
        if current is None:  # it has ended
            return known.details if known and now - known.seen < _REMEMBER_NS else NOTHING
        current_name, started = current
        # A tick is as exactly as a process's beginning is told.
        if current_name != name or started > time_ns + _TICK_NS:
            return known.details if known and known.started < started and now - known.seen < _REMEMBER_NS else NOTHING
        if known is None or known.started != started or known.details.in_exec:
            known = self._known[pid, name] = _Known(self._read(pid), started, now)
            if len(self._known) > _CACHE:
                self._known.popitem(last=False)
        known.seen = now
        self._known.move_to_end((pid, name))
        return known.details

    def _identity(self, pid: int) -> tuple[bytes, int] | None:
        """Command name, and when it began (ns, CLOCK_BOOTTIME); None when there is no such process."""
        try:
            stat = (self._proc / str(pid) / "stat").read_bytes()
        except OSError:
            return None
        before, _, after = stat.rpartition(b")")
        return before.partition(b"(")[2], int(after.split()[19]) * _TICK_NS - NAMESPACE_OFFSET_NS

    def _read(self, pid: int) -> Details:
        folder = self._proc / str(pid)
        executable: str | None = None
        command = b""
        try:
            executable = os.fsencode((folder / "exe").readlink()).decode("utf-8", "backslashreplace")
        except OSError:
            pass  # a kernel thread, or it has just ended
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            pass
        digest = hmac.new(self._key, command, "sha256").hexdigest()[:DIGITS] if command else None
        return Details(executable, digest)
