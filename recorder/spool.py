"""What is being recorded right now: one Arrow IPC stream per table and rotation interval.

    <trace>/.spool/<host>-<capture>/lock                       flock, held while the capture runs
    <trace>/.spool/<host>-<capture>/reserve                    room for the last words on a full disk
    <trace>/.spool/<host>-<capture>/<table>-<sequence>.arrows

A stream's schema carries the capture's metadata, so that a left-over spool says everything that its Parquet
file has to say. Every batch reaches the kernel before `append` returns: `kill -9` loses nothing appended, and
a tail torn by a power cut costs only the batches that it tore.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from netrec.errors import TraceError
from netrec.trace import layout, metadata
from netrec.trace.storage import create_file, lock, make_folder

RESERVE_FILE = "reserve"
# Health rows, footers and their pages fit into this several times over.
RESERVE_BYTES = 256 * 1024
# A reader holds whole parts in memory: small ones let it hold little more than it needs.
ROWS_PER_PART = 16_384
# A schema with its metadata takes some 10 kB: a larger file without one was not torn, it is something else.
_LARGEST_SCHEMA = 256 * 1024
_LOST = b"events_lost"
_OPENED = b"netrec.opened"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"  # the end marker of an IPC stream


class SpoolFolder:
    """The locked spool folder of one capture, for the recorder that fills it or the repair that empties it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def create(cls, trace: Path, host: str, capture: str) -> SpoolFolder:
        """Make and lock the folder of a new capture; raises `OSError`."""
        path = layout.spool_folder(trace, host, capture)
        while True:
            make_folder(path)
            folder = cls.acquire(path)
            if folder:
                return folder

    @classmethod
    def acquire(cls, path: Path) -> SpoolFolder | None:
        """Lock an existing folder; None when someone else holds it or it has just gone."""
        held = lock(path / layout.LOCK_FILE)
        return None if held is None else cls(path, held)

    def renew(self) -> None:
        """Make and lock the folder again if someone removed it under the recorder; raises `OSError`."""
        try:
            if os.fstat(self._lock).st_ino == (self.path / layout.LOCK_FILE).stat().st_ino:
                return
        except FileNotFoundError:
            pass
        make_folder(self.path)
        again = SpoolFolder.acquire(self.path)
        if again is None:
            raise FileNotFoundError(errno.ENOENT, "the spool folder was removed", str(self.path))
        os.close(self._lock)
        self._lock = again._lock

    def reserve(self) -> None:
        """Set a little room aside; without it (a disk already full) the recorder still runs."""
        descriptor = os.open(
            self.path / RESERVE_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, layout.FILE_MODE
        )
        try:
            os.fchmod(descriptor, layout.FILE_MODE)
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            pass
        finally:
            os.close(descriptor)

    def release_reserve(self) -> bool:
        """Give the reserved room back to the file system; False when it was already gone."""
        try:
            (self.path / RESERVE_FILE).unlink()
        except FileNotFoundError:
            return False
        return True

    def files(self) -> list[layout.SpoolFile]:
        """The spool files in the folder, by table and sequence."""
        return sorted(file for path in self.path.iterdir() if (file := layout.SpoolFile.parse(path)))

    def close(self) -> None:
        """Unlock; the folder goes when no spool is left in it. Does nothing the second time."""
        if self._lock < 0:
            return
        try:
            if not self.files():
                for path in (self.path / RESERVE_FILE, self.path / layout.LOCK_FILE):
                    path.unlink(missing_ok=True)
                self.path.rmdir()
                self.path.parent.rmdir()
        except OSError:
            pass  # something else lies there, or another capture's folder: both stay
        finally:
            os.close(self._lock)
            self._lock = -1


class SpoolWriter:
    """Appends the batches of one table and interval.

    `opened` (ISO 8601) is when the interval began. Raises `OSError` when the file cannot be made.
    """

    def __init__(
        self, file: layout.SpoolFile, schema: pa.Schema, capture: metadata.CaptureMetadata, opened: str
    ) -> None:
        self.file = file
        self.opened = opened
        self.rows = 0
        self.bytes = 0
        os.close(create_file(file.path))
        self._sink = pa.OSFile(str(file.path), "wb")
        described = schema.with_metadata({**metadata.encode(capture), _OPENED: opened.encode()})
        try:
            self._stream = pa.ipc.new_stream(self._sink, described)
            self._schema = described
        except BaseException:
            self.discard()
            raise

    def append(self, batches: Sequence[pa.RecordBatch], events_lost: int) -> None:
        """Append batches and hand them to the kernel; `events_lost` is the interval's total so far.

        When there is no room (`OSError`) all of them are cut off again; nothing more can be appended then.
        """
        lost = {_LOST: str(events_lost).encode()}
        try:
            for batch in batches:
                described = batch.replace_schema_metadata(self._schema.metadata)
                for first in range(0, batch.num_rows, ROWS_PER_PART):
                    self._stream.write_batch(described.slice(first, ROWS_PER_PART), custom_metadata=lost)
            self._sink.flush()
        except OSError:
            self.abandon()
            os.truncate(self.file.path, self.bytes)
            raise
        self.bytes = self._sink.tell()
        self.rows += sum(batch.num_rows for batch in batches)

    def close(self) -> None:
        """End the stream."""
        if not self._sink.closed:
            try:
                self._stream.close()
            except OSError:
                pass  # no room for the end marker; the reader does without
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        try:
            self._sink.close()
        except OSError:
            pass

    def discard(self) -> None:
        """Close and remove the file."""
        self.abandon()
        self.file.path.unlink(missing_ok=True)


@dataclass
class SpoolContents:
    """A spool file while it is read: what its schema says, and after the last batch what the reading found.

    `torn_bytes` is what follows the last whole batch; `events_lost` the interval's loss as of the last batch.
    """

    file: layout.SpoolFile
    schema: pa.Schema
    capture: metadata.CaptureMetadata
    opened: str
    rows: int = 0
    torn_bytes: int = 0
    events_lost: int = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every whole batch, in order; one at a time in memory."""
        with pa.OSFile(str(self.file.path)) as source:
            reader = pa.ipc.open_stream(source)
            whole = source.tell()
            while True:
                try:
                    batch, custom = reader.read_next_batch_with_custom_metadata()
                except (StopIteration, pa.ArrowException, OSError):
                    break
                whole = source.tell()
                self.rows += batch.num_rows
                if custom is not None and _LOST in custom:
                    self.events_lost = int(custom[_LOST])
                yield batch
            source.seek(whole)
            rest = source.size() - whole
            self.torn_bytes = 0 if rest == len(_END) and source.read() == _END else rest


def read(file: layout.SpoolFile) -> SpoolContents | None:
    """Open a spool; None when it was torn before its schema was whole, so that it holds no row.

    Raises `TraceError` when it is not netrec's, or from a newer one.
    """
    try:
        with pa.OSFile(str(file.path)) as source:
            schema = pa.ipc.open_stream(source).schema
    except (pa.ArrowException, OSError) as problem:
        if file.path.stat().st_size < _LARGEST_SCHEMA:
            return None
        raise TraceError(f"{file.path.name} is not an Arrow stream ({str(problem).splitlines()[0]})") from None
    capture = metadata.decode_capture(schema.metadata)
    opened = (schema.metadata or {}).get(_OPENED, b"").decode()
    return SpoolContents(file, schema, capture, opened)
