"""Flows to nfcapd as IPFIX over UDP on loopback, without losing any: the same flows in nfdump's own file.

Message format: RFC 7011; the reverse direction of a flow travels as postOctetDeltaCount and postPacketDeltaCount,
which nfdump stores as its "out" counters, so that one netrec row is one nfdump record.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.harness import measure, peer

VERSION = 10
RECORDS_PER_MESSAGE = 400
TCP = 6
# IPFIX information element, NumPy type (network order) after the two addresses.
ELEMENTS = (
    ("client_port", 7, ">u2"),
    ("server_port", 11, ">u2"),
    ("protocol", 4, "u1"),
    ("start_time", 152, ">u8"),
    ("end_time", 153, ">u8"),
    ("client_bytes", 1, ">u8"),
    ("client_packets", 2, ">u8"),
    ("server_bytes", 23, ">u8"),
    ("server_packets", 24, ">u8"),
)
TEMPLATES = {4: (256, 8, 12, 4), 6: (257, 27, 28, 16)}  # version: set id, source, destination element, address bytes


def _layout(version: int) -> np.dtype:
    size = TEMPLATES[version][3]
    addresses = [("client_address", f"V{size}"), ("server_address", f"V{size}")]
    return np.dtype(addresses + [(name, kind) for name, _, kind in ELEMENTS])


def _message(sets: bytes, sequence: int, now: int) -> bytes:
    return struct.pack("!HHIII", VERSION, 16 + len(sets), now, sequence & 0xFFFFFFFF, 1) + sets


def _templates() -> bytes:
    body = b""
    for number, source, destination, size in TEMPLATES.values():
        fields = [(source, size), (destination, size)]
        fields += [(element, np.dtype(kind).itemsize) for _, element, kind in ELEMENTS]
        body += struct.pack("!HH", number, len(fields)) + b"".join(struct.pack("!HH", *field) for field in fields)
    return struct.pack("!HH", 2, 4 + len(body)) + body


class Collector:
    """nfcapd into one file, fed by `send`; `finish` ends it and returns the file."""

    def __init__(self, folder: Path) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("nfcapd*"):
            old.unlink()
        command = [peer("nfcapd"), "-b", "127.0.0.1", "-p", str(self._port), "-w", str(folder)]
        # One file: no rotation within a day. -z: LZO, what its manual recommends.
        self._process = subprocess.Popen(
            [*command, "-t", "86400", "-z", "-B", "200000000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._addresses: dict[str, bytes] = {}
        self._sequence = 0
        end = time.monotonic() + 10
        while self._waiting() is None:
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("nfcapd did not start")
            time.sleep(0.05)
        self._send(_templates())
        time.sleep(0.2)

    def _waiting(self) -> int | None:
        """Bytes in nfcapd's socket that it has not read yet; None while it has none."""
        suffix = f":{self._port:04X}"
        for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[1].endswith(suffix):
                return int(columns[4].split(":")[1], 16)
        return None

    def _send(self, sets: bytes) -> None:
        # Loopback drops what does not fit into the receiver's buffer: wait until there is room.
        while (self._waiting() or 0) > 100_000:
            time.sleep(0.0005)
        self._socket.sendto(_message(sets, self._sequence, int(time.time())), ("127.0.0.1", self._port))

    def send(self, batch: pa.RecordBatch) -> None:
        """Rows of the flows table, IPv4 and IPv6."""
        is_six = pc.equal(batch.column("network_type").cast(pa.string()), "ipv6")
        for version, mask in ((4, pc.invert(is_six)), (6, is_six)):
            rows = batch.filter(mask)
            records = np.zeros(rows.num_rows, _layout(version))
            for side in ("client_address", "server_address"):
                column = rows.column(side)
                packed = [self._packed(text, version) for text in column.dictionary.to_pylist()]
                table = np.frombuffer(b"".join(packed), dtype=records.dtype[side])
                records[side] = table[column.indices.to_numpy()]
            for name, _, _ in ELEMENTS:
                if name == "protocol":
                    records[name] = TCP
                elif name.endswith("_time"):
                    records[name] = rows.column(name).cast(pa.int64()).to_numpy() // 1000
                else:
                    records[name] = rows.column(name).to_numpy()
            number = TEMPLATES[version][0]
            for start in range(0, len(records), RECORDS_PER_MESSAGE):
                part = records[start : start + RECORDS_PER_MESSAGE]
                data = part.tobytes()
                self._send(struct.pack("!HH", number, 4 + len(data)) + data)
                self._sequence += len(part)

    def _packed(self, text: str, version: int) -> bytes:
        """Binary address; dictionaries hold addresses of both versions: the other one's entries are never used."""
        if (":" in text) != (version == 6):
            return bytes(TEMPLATES[version][3])
        if text not in self._addresses:
            self._addresses[text] = socket.inet_pton(socket.AF_INET6 if version == 6 else socket.AF_INET, text)
        return self._addresses[text]

    def finish(self) -> Path:
        while self._waiting():
            time.sleep(0.01)
        time.sleep(0.5)
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)
        self._socket.close()
        files = sorted(path for path in self._folder.glob("nfcapd.*") if "current" not in path.name)
        if len(files) != 1:
            raise RuntimeError(f"nfcapd left {len(files)} files, not one")
        return files[0]

    def close(self) -> None:
        """End nfcapd, whatever happened."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()


def count(file: Path) -> dict[str, int]:
    """Flows, bytes and packets in an nfdump file, as its own statistics say (`nfdump -I`), by lower-case name."""
    found = {}
    for line in measure([peer("nfdump"), "-r", file, "-I"]).output.splitlines():
        name, _, value = line.partition(":")
        if value.strip().isdecimal():
            found[name.strip().lower()] = int(value)
    return found


def converted(file: Path, option: str, target: Path, flows: int) -> Path:
    """The first `flows` flows compressed another way: -j bz2, -y LZ4, -z LZO, or `` for none."""
    measure([peer("nfdump"), "-r", file, "-w", target, "-c", str(flows), *([option] if option else [])])
    return target
