"""Flows and events of the whole host from the kernel, through bcc, without kernel headers.

TCP costs no work per packet; UDP and ICMP are counted per packet in the kernel.

programs.py         what is compiled and attached: common.bpf.h and, of tcp.bpf.c, datagrams.bpf.c and events.bpf.c,
                    those asked for; recorder/bpf compiles, attaches and reads them
ring.bpf.h          the ring of flows, and when the programs wake the recorder
records.py          the records of TCP's ring buffer
live.py             TCP: cumulative counters -> deltas
datagrams.py        UDP and ICMP: turns of the kernel's maps -> flows (datagram_table.py, datagram_records.py)
events.py           the events table (event_records.py, event_rows.py; listen_drops.py: what only counters tell)
dns.py              names for flows and events of DNS clients, from packets that dns.bpf.c copies
kernel_filter.py    --filter as C (filter.bpf.h asks it), and the cgroups that it names
rows.py owners.py   records -> the flows table
recorder_source.py  the life cycle
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netrec.errors import CannotRecordError, UsageError
from netrec.text import parse_duration
from recorder.bpf.readiness import can_load
from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification
from recorder.sources.ebpf import protocols

if TYPE_CHECKING:
    from recorder.process_details import ProcessDetails


def can_run(settings: Mapping[str, Any]) -> Readiness:
    """Whether this process may load eBPF programs on this kernel; never raises."""
    return can_load("ebpf")


def create(context: CaptureContext) -> Source:
    """Make the source. The compiler's process is started before anything heavy is imported here.

    Raises `CannotRecordError` when this process may not load eBPF programs, `UsageError` when a key cannot be used.
    """
    from recorder.bpf.compiler import Build
    from recorder.sources.ebpf.programs import request

    readiness = can_run(context.settings)
    if not readiness.ready:
        raise CannotRecordError(readiness.reason, readiness.fix)
    details = _process_details(context.settings)
    build = Build(request(context.settings))
    from recorder.sources.ebpf.recorder_source import EbpfSource

    return EbpfSource(context, build, details)


def _process_details(settings: Mapping[str, Any]) -> ProcessDetails | None:
    key = settings.get("process_key")
    if not settings.get("process_details"):
        if key:
            raise UsageError("--process-key is of no use without --process-details", "add --process-details")
        return None
    from recorder.process_details import ProcessDetails, read_key

    return ProcessDetails(read_key(key) if key else None)


SOURCE = SourceSpecification(
    name="ebpf",
    summary="every socket of this host (TCP; UDP and ICMP on request), from the kernel, without touching traffic",
    tables=("flows", "events"),
    can_run=can_run,
    create=create,
    recorded=lambda settings: ("flows", "events") if settings.get("events") else ("flows",),
    settings=(
        Setting(
            "protocols",
            protocols.DEFAULT,
            "What to record: tcp, udp, icmp, other (any other IP protocol with sockets).",
            protocols.parse,
            "NAME",
            True,
        ),
        Setting(
            "idle-timeout",
            30.0,
            "A flow that is not TCP is over after so long without a packet.",
            parse_duration,
            "TIME",
        ),
        Setting(
            "events",
            False,
            "Also record events: retransmits, resets, failed connects, drops with the kernel's reason.",
            bool,
        ),
        Setting(
            "dns",
            False,
            "Also read what this host's DNS clients ask: names for flows; queries and their failures as events.",
            bool,
        ),
        Setting(
            "process-details",
            False,
            "Also record each owner's executable, and a keyed hash of its command line (never the line itself).",
            bool,
        ),
        Setting(
            "process-key",
            None,
            "File with the key of those hashes, to compare them between captures and hosts (default: random).",
            Path,
            "FILE",
        ),
    ),
)
