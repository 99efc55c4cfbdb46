"""What is compiled and attached: the request to the compiler. Imports nothing heavy, so that it can be sent first.

The text is common.bpf.h, the filter if there is one, and the files of the parts that were asked for; a part that was
not asked for is neither compiled nor loaded nor attached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recorder.bpf.compiler import (
    CGROUP_EGRESS,
    CGROUP_INGRESS,
    CONNECT4,
    CONNECT6,
    ITERATOR,
    RAW_TRACEPOINT,
    SOCKET_CREATE,
    SOCKET_RELEASE,
    Request,
    typed_tracepoint,
)
from recorder.sources.ebpf import protocols

if TYPE_CHECKING:
    from recorder.sources.ebpf.kernel_filter import KernelFilter

FOLDER = Path(__file__).parent
COMMON, FILTER, RING, SOCKETS = "common.bpf.h", "filter.bpf.h", "ring.bpf.h", "sockets.bpf.h"
# Places side by side in a bucket of the table of sockets (sockets.bpf.h).
_PLACES = 15
FILTER_CGROUPS = "filter_cgroups"
MAX_PENDING = 4096
MAX_EVENTS = 16384
# Room for some thousand packets of DNS clients: few enough to be parsed at once while other rings fill.
DNS_RING_BYTES = 1 << 19
# Flows of UDP and ICMP at most that have a place of their own in a turn: on a host of some hundred flows nearly all.
MAX_DATAGRAM_SLOTS = 512
_PAGE = 4096


@dataclass(frozen=True)
class Part:
    """One file of programs. `tracepoints` maps a program to the raw tracepoint that it is attached to, `cgroup_hooks`
    to the kind of hook of the root cgroup; `typed` are those that load from what the tracepoint's arguments point to.
    What the kernel skips of the programs `made_good` is not lost."""

    file: str
    tracepoints: Mapping[str, str] = field(default_factory=dict)
    cgroup_hooks: Mapping[str, str] = field(default_factory=dict)
    typed: tuple[str, ...] = ()
    iterators: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()
    made_good: tuple[str, ...] = ()


TCP = Part(
    "tcp.bpf.c",
    {
        "tcp_state": "inet_sock_set_state",
        "tcp_reset_received": "tcp_receive_reset",
        "tcp_reset_sent": "tcp_send_reset",
        "tcp_socket_destroyed": "tcp_destroy_sock",
    },
    cgroup_hooks={"tcp_attempt4": CONNECT4, "tcp_attempt6": CONNECT6},
    typed=("tcp_state", "tcp_socket_destroyed"),
    iterators=("bpf_iter__tcp", "bpf_iter__bpf_map_elem", "bpf_iter__task_file"),
    maps=("sockets", "pending", "counters", "control", "flows"),
    made_good=("tcp_state",),
)
# Attached before those of TCP: they look at what those are about to change.
EVENTS = Part(
    "events.bpf.c",
    {
        "event_closed": "inet_sock_set_state",
        "event_reset_received": "tcp_receive_reset",
        "event_reset_sent": "tcp_send_reset",
        "event_retransmit": "tcp_retransmit_skb",
        "event_retransmit_synack": "tcp_retransmit_synack",
        "event_socket_destroyed": "tcp_destroy_sock",
        "event_drop": "kfree_skb",
    },
    maps=("events_even", "events_odd"),
)
# Before TCP's text, which calls it; who made a socket is asked for before what is sent through it.
DATAGRAMS = Part(
    "datagrams.bpf.c",
    cgroup_hooks={
        "socket_created": SOCKET_CREATE,
        "socket_released": SOCKET_RELEASE,
        "datagram_sent": CGROUP_EGRESS,
        "datagram_received": CGROUP_INGRESS,
    },
    maps=("datagram_slots", "datagrams_even", "datagrams_odd", "datagram_flows"),
)
DNS = Part(
    "dns.bpf.c",
    cgroup_hooks={"dns_sent": CGROUP_EGRESS, "dns_received": CGROUP_INGRESS},
    maps=("dns_packets",),
)
PARTS = (DATAGRAMS, TCP, EVENTS, DNS)


def chosen(settings: Mapping[str, Any]) -> tuple[Part, ...]:
    """The parts that these settings ask for. TCP's is always there: the others use its iterators and its maps."""
    wanted = [TCP]
    if set(protocols.chosen(settings)) - {"tcp"}:
        wanted.insert(0, DATAGRAMS)
    if settings.get("events"):
        wanted.append(EVENTS)
    if settings.get("dns"):
        wanted.append(DNS)
    return tuple(wanted)


def text(parts: tuple[Part, ...] = PARTS, kernel_filter: KernelFilter | None = None) -> str:
    """The C text of these parts."""
    filtering = [kernel_filter.text, _read(FILTER)] if kernel_filter else []
    return "\n".join([_read(COMMON), _read(SOCKETS), _read(RING), *filtering, *(_read(part.file) for part in parts)])


def _read(name: str) -> str:
    return (FOLDER / name).read_text()


def kernel_filter(settings: Mapping[str, Any]) -> KernelFilter | None:
    """The filter of these settings as C; raises `FilterError` when it is too large for the kernel."""
    if settings.get("filter") is None:
        return None
    from recorder.sources.ebpf.kernel_filter import compile_for_kernel

    return compile_for_kernel(settings["filter"])


def max_flows(settings: Mapping[str, Any]) -> int:
    """How many sockets the kernel's map can hold."""
    return int(settings.get("max_flows", 131072))


def datagram_slots(flows: int) -> int:
    """Slots of a turn, beside a map of so many datagram flows."""
    return min(MAX_DATAGRAM_SLOTS, max(flows // 4, 1))


def ring_bytes(settings: Mapping[str, Any]) -> int:
    """The ring's size: the next power of two of at least a page, as the kernel requires."""
    return max(_PAGE, 1 << (int(settings.get("ring_size", 8 << 20)) - 1).bit_length())


def places(settings: Mapping[str, Any]) -> int:
    """What the table of sockets has room for: twice --max-flows, so that hardly a bucket is ever full."""
    return -(-2 * max_flows(settings) // _PLACES) * _PLACES


def max_events(settings: Mapping[str, Any]) -> int:
    """How many different events the kernel can count before they are taken: per (flow, kind, reason)."""
    return int(settings.get("max_events", MAX_EVENTS))


def request(settings: Mapping[str, Any]) -> Request:
    """The programs for these settings."""
    parts = chosen(settings)
    defines = {
        "MAX_FLOWS": max_flows(settings),
        "BUCKETS": places(settings) // _PLACES,
        "MAX_PENDING": MAX_PENDING,
        "RING_PAGES": ring_bytes(settings) // _PAGE,
    }
    enumerations = []
    if EVENTS in parts:
        defines |= {"WITH_EVENTS": 1, "MAX_EVENTS": max_events(settings)}
        enumerations = ["skb_drop_reason", "sk_rst_reason"]
    if DATAGRAMS in parts:
        defines |= {"WITH_DATAGRAMS": 1, "DATAGRAM_SLOTS": datagram_slots(max_flows(settings))}
        defines |= {f"WANT_{name.upper()}": 1 for name in protocols.chosen(settings)}
    if settings.get("max_cpu"):
        defines |= {"WITH_TIMING": 1}
    if DNS in parts:
        defines |= {"DNS_RING_PAGES": DNS_RING_BYTES // _PAGE}
    filtering = kernel_filter(settings)
    if filtering:
        defines |= filtering.defines
    functions: dict[str, str] = {}
    for part in parts:
        for name, tracepoint in part.tracepoints.items():
            functions[name] = typed_tracepoint(tracepoint) if name in part.typed else RAW_TRACEPOINT
        functions |= dict.fromkeys(part.iterators, ITERATOR)
        functions |= part.cgroup_hooks
    maps = [name for part in parts for name in part.maps]
    if filtering and filtering.cgroup_terms:
        maps.append(FILTER_CGROUPS)
    return Request(text(parts, filtering), defines, functions, maps, enumerations)
