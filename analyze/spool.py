"""What a running (or killed) capture has not yet turned into Parquet: its Arrow IPC spools."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from netrec.errors import TraceError
from netrec.trace.layout import LOCK_FILE, SPOOL_FOLDER, SpoolFile

if TYPE_CHECKING:
    import pyarrow

    from netrec.trace import metadata


@dataclass(frozen=True)
class Spool:
    """One spool file of a table."""

    trace: Path
    file: SpoolFile

    @property
    def identity(self) -> tuple[Path, str, str, int]:
        """(trace, host, capture, sequence) of the Parquet file that it becomes."""
        host, _, capture = self.file.folder.name.rpartition("-")
        return (self.trace, host, capture, self.file.sequence)

    @property
    def running(self) -> bool:
        """Whether a recorder holds the capture's lock."""
        try:
            descriptor = os.open(self.file.folder / LOCK_FILE, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except OSError:
            return True
        finally:
            os.close(descriptor)

    @cached_property
    def data(self) -> pyarrow.Table | None:
        """Its whole batches with a `capture` column; None when there is none that can be read."""
        import pyarrow as pa

        from netrec.trace import metadata

        batches: list[pa.RecordBatch] = []
        try:
            with pa.OSFile(str(self.file.path)) as source, pa.ipc.open_stream(source) as reader:
                metadata.decode_capture(reader.schema.metadata)
                try:
                    while True:
                        batches.append(reader.read_next_batch())
                except (StopIteration, pa.ArrowInvalid, OSError):
                    pass  # the batch that is being written now, or was when the recorder died
        except (pa.ArrowInvalid, OSError, TraceError):
            return None
        if not batches:
            return None
        table = pa.Table.from_batches(batches).replace_schema_metadata(None)
        plain = pa.schema([_plain(field) for field in table.schema])
        return table.cast(plain).append_column("capture", pa.array([self.file.folder.name] * table.num_rows))

    @cached_property
    def capture(self) -> metadata.CaptureMetadata | None:
        """What its capture says of itself; None when that cannot be read."""
        import pyarrow as pa

        from netrec.trace import metadata

        try:
            with pa.OSFile(str(self.file.path)) as source, pa.ipc.open_stream(source) as reader:
                return metadata.decode_capture(reader.schema.metadata)
        except (pa.ArrowInvalid, OSError, TraceError):
            return None

    @property
    def rows(self) -> int:
        """Number of rows that can be read now."""
        return 0 if self.data is None else self.data.num_rows

    def newest(self, column: str) -> datetime | None:
        """The latest time in a column; None when there is no row."""
        import pyarrow.compute as pc

        return None if self.data is None else pc.max(self.data.column(column)).as_py()


def find(trace: Path, table: str) -> list[Spool]:
    """The spool files of a table (`*`: of all), of every capture."""
    found = []
    for path in sorted(trace.glob(f"{SPOOL_FOLDER}/*/{table}-*.arrows")):
        file = SpoolFile.parse(path)
        if file and table in (file.table, "*"):
            found.append(Spool(trace, file))
    return found


def table(spools: list[Spool]) -> pyarrow.Table:
    """The rows of several spools as one Arrow table."""
    import pyarrow as pa

    return pa.concat_tables([spool.data for spool in spools if spool.data is not None], promote_options="default")


def _plain(field: pyarrow.Field) -> pyarrow.Field:
    import pyarrow as pa

    return pa.field(field.name, field.type.value_type) if pa.types.is_dictionary(field.type) else field
