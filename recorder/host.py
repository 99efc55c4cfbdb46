"""What a capture says about the host that it was made on."""

from __future__ import annotations

import platform
import shlex
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import netrec
from netrec.trace import layout, metadata
from recorder.clock import boot_ns
from recorder.source import SourceSpecification


def describe(sources: Sequence[SourceSpecification], settings: Mapping[str, Any]) -> metadata.CaptureMetadata:
    """The metadata of a capture that starts now on this host, with these settings of `netrec record`."""
    now = datetime.now(UTC)
    return metadata.CaptureMetadata(
        host=settings.get("host") or socket.gethostname(),
        capture=layout.new_capture_id(now),
        source=",".join(source.name for source in sources),
        host_addresses=addresses(),
        boot_id=_line("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        filter=str(settings.get("filter") or ""),
        command_line=shlex.join(["netrec", *sys.argv[1:]]),
        clock_offset_us=(time.clock_gettime_ns(time.CLOCK_REALTIME) - boot_ns()) // 1000,
        capture_start=now.isoformat(timespec="microseconds"),
        settings={name: _plain(value) for name, value in settings.items()},
        tables=sorted({"health", *(table for source in sources for table in source.recorded_tables(settings))}),
        netrec_version=netrec.__version__,
    )


def addresses() -> list[str]:
    """This network namespace's own addresses, IPv4 then IPv6, without loopback and link-local ones."""
    found = set()
    # The local routing table of fib_trie: an address stands on the line before "/32 host LOCAL".
    previous = ""
    for text in _lines("/proc/net/fib_trie"):
        if "/32 host LOCAL" in text:
            found.add(previous.split()[-1])
        previous = text
    ipv4 = sorted(one for one in found if not one.startswith("127."))
    ipv6 = []
    for text in _lines("/proc/net/if_inet6"):
        raw, _, _, scope = text.split()[:4]
        if scope == "00":  # global
            ipv6.append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(raw)))
    return [*ipv4, *sorted(set(ipv6))]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _line(path: str) -> str:
    return next(iter(_lines(path)), "")


def _plain(value: Any) -> Any:
    """A setting as JSON can hold it."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
