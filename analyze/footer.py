"""The footer of a Parquet file, read without a Parquet library.

Opening a trace checks every file's footer, and a trace may hold thousands: this reads what the check needs (netrec's
keys) with two small reads a file. The layout is that of the Parquet and Thrift
specifications: a file ends with its footer, the footer's length (four bytes, little endian) and `PAR1`; the footer is
a Thrift compact-protocol struct whose key-value pairs are written as two strings each.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from netrec.errors import TraceError
from netrec.trace import metadata

_MAGIC = b"PAR1"
_TAIL = 32 * 1024  # most footers fit, so that one read is enough
# A key-value pair in the Thrift compact protocol: field 1 (binary) with the key, field 2 (binary) with the value.
_PAIR = re.compile(rb"\x18[\x01-\x7f](netrec\.[a-z_]+)\x18([\x80-\xff]{0,4}[\x00-\x7f])")

# A footer begins with field 1 (i32, version) and field 2 (list of schema elements, the root among them).
_SCHEMA = re.compile(rb"\x15[\x00-\x7f]\x19(?:([\x0c-\xec])|\xfc([\x80-\xff]{0,4}[\x00-\x7f]))", re.DOTALL)
_VARINT = rb"[\x80-\xff]*[\x00-\x7f]"
# What follows the path of a column in each row group: codec, number of values, sizes, offsets, and statistics that
# begin with the number of nulls (those of columns of nulls do: they have no extremes).
_NULLS = rb"(?:\x15%(v)s\x16(%(v)s)\x16%(v)s\x16%(v)s\x26%(v)s(?:[\x16\x26]%(v)s)?[\x1c\x2c\x3c]\x36(%(v)s))?" % {
    b"v": _VARINT
}


@dataclass(frozen=True)
class Footer:
    """What a file says about itself: netrec's keys, its number of columns, and its size in bytes."""

    raw: dict[bytes, bytes]
    columns: int
    size: int

    @property
    def file(self) -> metadata.FileMetadata:
        """The decoded footer; raises `TraceError` when it is not netrec's."""
        return metadata.decode_file(self.raw)

    def text(self, key: str) -> str:
        """One of netrec's values as text, without decoding the rest; empty when it is missing."""
        return self.raw.get((metadata.PREFIX + key).encode(), b"").decode(errors="replace")


def read(path: Path | str) -> Footer:
    """The footer of a finished file.

    Raises `TraceError` whose message completes "<file>: ..." when the file is empty, truncated, foreign, or of a newer
    trace format.
    """
    try:
        footer, size = _footer_bytes(path)
    except OSError as problem:
        raise TraceError(f"cannot be read ({problem.strerror})") from None
    raw: dict[bytes, bytes] = {}
    for match in _PAIR.finditer(footer):
        length = _varint(match[2])
        # The pairs follow the column statistics, which hold text from strangers: the last match is the true one.
        raw[match[1]] = footer[match.end() : match.end() + length]
    version = metadata.format_version(raw)
    if version > metadata.FORMAT_VERSION:
        raise TraceError(
            f"written in trace format {version}, this netrec reads up to {metadata.FORMAT_VERSION}",
            "install a newer netrec to include it",
        )
    if b"netrec.capture_id" not in raw:
        raise TraceError("not a netrec file: its footer has no netrec.capture_id")
    schema = _SCHEMA.match(footer)
    columns = (schema[1][0] >> 4 if schema[1] else _varint(schema[2])) - 1 if schema else 0
    return Footer(raw, columns, size)


def holds_nothing(path: Path | str, column: str) -> bool:
    """Whether a file's statistics say that this column is null in every row of it; False where they do not tell.

    It is asked before a query that would read the column: through SQL the answer takes as long as opening the trace.
    """
    try:
        footer, _ = _footer_bytes(path)
    except (OSError, TraceError):
        return False
    name = column.encode()
    found = re.findall(rb"\x18%c%s%s" % (len(name), re.escape(name), _NULLS), footer, re.DOTALL)
    # The first is the schema's. Text from strangers among the statistics may look like one more, never like one less.
    return not found or (found[0] == (b"", b"") and all(values and values == nulls for values, nulls in found[1:]))


def _footer_bytes(path: Path | str) -> tuple[bytes, int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise TraceError("empty file")
        if os.pread(descriptor, 4, 0) != _MAGIC:
            raise TraceError("not a Parquet file")
        tail = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
        if size < 12 or tail[-4:] != _MAGIC:
            raise TraceError("truncated: its end is missing")
        length = int.from_bytes(tail[-8:-4], "little")
        if length + 12 > size:
            raise TraceError("damaged: its footer is longer than the file")
        if length + 8 > len(tail):
            tail = os.pread(descriptor, length + 8, size - length - 8)
        return tail[-8 - length : -8], size
    finally:
        os.close(descriptor)


def _varint(data: bytes) -> int:
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data))
