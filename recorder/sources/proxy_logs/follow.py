"""Where lines come from: a file followed across rotation and truncation, a finished one, or syslog datagrams.

A followed file is known by its inode and the hash of its beginning, so that a follower that starts again goes on where
it was: in the same file, or in the rotated one (also compressed), then in those that came after it, then in the new
one.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import json
import os
import re
import socket
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from netrec.errors import CannotRecordError

BEGINNING = 256
CHUNK = 1 << 20
LONGEST = 1 << 20
# A line's position: the number of its file, then so many bits of offset in it.
OFFSET_BITS = 40
# What follows a log's name in that of a rotated one: a number, a date, both with or without compression.
_ROTATED = r"[.-](\d[\d.T_-]*|old)(\.gz)?"
# What reading a compressed file raises that was cut short or changed.
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


@dataclass
class Place:
    """How far a file has been read: `offset` is that of the first line not yet taken (in the uncompressed text).

    `number` counts the files that were followed, one after the other; `captures` are those that may have written lines
    from there on.
    """

    inode: int = 0
    beginning: str = ""
    length: int = 0  # of the beginning that was hashed
    offset: int = 0
    number: int = 0
    captures: list[str] = field(default_factory=list)

    @property
    def position(self) -> int:
        """Where the next line stands in all that was followed, as one number that only grows."""
        return self.number << OFFSET_BITS | self.offset


class Lines(Protocol):
    """A source of lines: `read` gives what has come (bounded), `finished` is true when nothing more will ever come.

    `place` is where it is; `keep` remembers a place for the next start.
    """

    finished: bool

    def read(self) -> list[tuple[int, bytes]]: ...

    def place(self) -> Place | None: ...

    def keep(self, place: Place | None) -> None: ...

    def close(self) -> None: ...


class FollowedFile:
    """A log file, from its start (or where the last follower left off) on."""

    def __init__(self, path: Path, state: Path, *, to_end: bool = False) -> None:
        """`to_end`: finished at the end of the file, as one that is compressed always is."""
        self.path = path
        self.finished = False
        self._state = state
        self._to_end = to_end or path.suffix == ".gz"
        self._known = False  # whether there is a place to go on from
        self._since = 0  # when it was remembered, nanoseconds
        self._place = self._load()
        self._rest = b""
        self._file: IO[bytes] | None = None
        self._older = self._rotated()  # files before the one at `path`, still to be read
        if not self._older and not path.exists() and self._to_end:
            raise CannotRecordError(f"{path} does not exist", "name the log file that the proxy writes")
        self._open_next(going_on=bool(self._older))

    def read(self) -> list[tuple[int, bytes]]:
        """Whole lines that have come, each with its position; at most about a megabyte of them.

        Raises `CannotRecordError` where a compressed file is damaged, after all lines before that.
        """
        if self._file is None:
            self._open_next()
            if self._file is None:
                return []
        try:
            # A whole read of a damaged file would lose what came before the damage.
            data = self._file.read1(CHUNK) if isinstance(self._file, gzip.GzipFile) else self._file.read(CHUNK)
        except _DAMAGED as problem:
            raise self._damaged(problem) from None
        if not data:
            return self._at_the_end()
        return self._split(data)

    def _split(self, data: bytes) -> list[tuple[int, bytes]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            lines.append(self._rest)
            self._rest = b""
        found = []
        for line in lines:
            found.append((self._place.position, line))
            self._place.offset += len(line) + 1
        return found

    def _at_the_end(self) -> list[tuple[int, bytes]]:
        assert self._file is not None
        if not self._older and self._replaced():
            if data := self._file.read(CHUNK):  # written between our reading and the rotation
                return self._split(data)
            self._older = self._rotated()
            if self._older and _inode(self._older[0]) != self._place.inode:
                # A copy of ours, which was cut short, or compressed: it may have lines that we have not seen.
                return self._leave(going_on=True)
            return self._leave(rest=True, skip=1)
        if self._older:
            return self._leave(rest=True)
        if self._to_end:
            self.finished = True
            last = [(self._place.position, self._rest)] if self._rest else []
            self._place.offset += len(self._rest)
            self._rest = b""
            return last
        return []

    def _leave(self, *, rest: bool = False, skip: int = 0, going_on: bool = False) -> list[tuple[int, bytes]]:
        """Open the next file. What is left of this one without a newline was its last line."""
        assert self._file is not None
        last = [(self._place.position, self._rest)] if rest and self._rest else []
        self._file.close()
        self._file, self._rest = None, b""
        del self._older[:skip]
        self._open_next(fresh=not going_on, going_on=going_on)
        return last + (self.read() if self._file else [])

    def _replaced(self) -> bool:
        """Whether the path is another file now, or the same one that was cut short and written anew.

        Another file that is empty does not count: the proxy still writes the old one until it is told to reopen.
        """
        if self.path.suffix == ".gz":
            return False
        try:
            now = self.path.stat()
            if now.st_ino != self._place.inode:
                return now.st_size > 0
            return now.st_size < self._place.offset + len(self._rest) or not self._is(self.path)
        except FileNotFoundError:
            return False  # being rotated: the new one is not there yet

    def _open_next(self, *, fresh: bool = False, going_on: bool = False) -> None:
        """Open the oldest file that is still to be read: from its start when it is a `fresh` one, or another one."""
        path = self._older.pop(0) if self._older else self.path
        try:
            file = _open(path)
        except FileNotFoundError:
            return
        except OSError as problem:
            raise CannotRecordError(f"{path} cannot be read ({problem.strerror})", "see who may read it") from None
        inode = os.fstat(file.fileno()).st_ino
        place = self._place
        if fresh or not (going_on or (inode == place.inode and self._is(path))):
            place = Place(number=place.number + (place.inode > 0), captures=place.captures)
        place.inode = inode
        self._place, self._file, self._known = place, file, True
        self._note_beginning()
        try:
            file.seek(place.offset)
        except _DAMAGED as problem:
            raise self._damaged(problem) from None

    def _damaged(self, problem: Exception) -> CannotRecordError:
        assert self._file is not None
        return CannotRecordError(
            f"{self._file.name} is damaged after {self._place.offset:,} bytes of its text ({problem})",
            "all lines before it are recorded; unpack the log again, or move it away to go on with newer ones",
        )

    def _rotated(self) -> list[Path]:
        """The file that was being read, when it has another name by now, and those that came after it, oldest first.

        Which came after is told by when they were last written; compressing keeps that time.
        """
        if self.path.suffix == ".gz" or not self._known:
            return []
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._place.inode and self._is(self.path):
                return []
        others: list[tuple[int, Path]] = []
        pattern = re.compile(re.escape(self.path.name) + _ROTATED)
        for path in self.path.parent.glob(glob.escape(self.path.name) + "?*"):
            if path.suffix == ".gz" and path.with_suffix("").exists():
                continue  # it is being compressed: the copy may be half of it
            with contextlib.suppress(OSError):
                others.append((path.stat().st_mtime_ns, path))
        others.sort()
        if not self._place.inode:  # there was no file yet: what was rotated since then is new
            return [path for written, path in others if written >= self._since and pattern.fullmatch(path.name)]
        for number, (_, path) in enumerate(others):
            with contextlib.suppress(OSError):
                if self._is(path):
                    later = [other for _, other in others[number + 1 :] if pattern.fullmatch(other.name)]
                    return [path, *(other for other in later if not self._is(other))]
        return []

    def _is(self, path: Path) -> bool:
        """Whether a file begins as the one at our place; of an empty one only the inode is known."""
        if not self._place.length:
            return path.stat().st_ino == self._place.inode
        with _open(path) as file:
            return _hash(_start(file, self._place.length)) == self._place.beginning

    def _note_beginning(self) -> None:
        if self._file is None or self._place.length >= BEGINNING:
            return
        with _open(Path(f"/proc/self/fd/{self._file.fileno()}"), zipped=self._zipped()) as file:
            beginning = _start(file, BEGINNING)
        self._place.length, self._place.beginning = len(beginning), _hash(beginning)

    def _zipped(self) -> bool:
        return isinstance(self._file, gzip.GzipFile)

    def _load(self) -> Place:
        try:
            place = Place(**json.loads(self._state.read_text()))
            self._known, self._since = True, self._state.stat().st_mtime_ns
        except (OSError, ValueError, TypeError):
            place = Place()
        return place

    def place(self) -> Place:
        """Where the first line stands that has not been taken."""
        self._note_beginning()
        return replace(self._place)

    def keep(self, place: Place | None) -> None:
        """The next follower starts there."""
        if place is None:
            return
        self._state.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._state.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(place)))
        temporary.replace(self._state)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _open(path: Path, zipped: bool | None = None) -> IO[bytes]:
    if path.suffix == ".gz" if zipped is None else zipped:
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _start(file: IO[bytes], size: int) -> bytes:
    """The first so many bytes, or what there is of them."""
    data = b""
    with contextlib.suppress(*_DAMAGED):
        while len(data) < size and (more := file.read1(size - len(data))):  # type: ignore[attr-defined]
            data += more
    return data


def _inode(path: Path) -> int:
    """0 when it has just gone, as when its compressed copy is done."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Syslog:
    """Datagrams of a proxy's syslog target: `udp://ADDRESS:PORT`, or the path of a Unix socket that is made here."""

    finished = False

    def __init__(self, where: str) -> None:
        self._path: Path | None = None
        self._count = 0
        try:
            if where.startswith("udp://"):
                host, _, port = where.removeprefix("udp://").rpartition(":")
                host = host.strip("[]") or "127.0.0.1"
                self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
                self._socket.bind((host, int(port)))
            else:
                self._path = Path(where)
                if self._path.is_socket() and not _answers(self._path):
                    self._path.unlink()  # left behind by a receiver that was killed
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.bind(where)
                self._path.chmod(0o666)  # proxies drop their rights before they log
        except (OSError, ValueError) as problem:
            raise CannotRecordError(
                f"syslog cannot be received at {where} ({problem})", "give udp://127.0.0.1:5514 or a path of your own"
            ) from None
        self._socket.setblocking(False)

    def read(self) -> list[tuple[int, bytes]]:
        return list(self._datagrams())

    def _datagrams(self) -> Iterator[tuple[int, bytes]]:
        for _ in range(20000):
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            for line in data.rstrip(b"\0\n").split(b"\n"):
                self._count += 1
                yield self._count, line

    def place(self) -> None:
        """Datagrams cannot be read again: there is nothing to remember."""

    def keep(self, place: Place | None) -> None: ...

    def close(self) -> None:
        self._socket.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
