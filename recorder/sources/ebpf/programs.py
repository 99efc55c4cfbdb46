"""What is compiled and attached: the request to the compiler. Imports nothing heavy, so that it can be sent first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.sources.ebpf.compiler import ITERATOR, RAW_TRACEPOINT, Request

PROGRAM = Path(__file__).with_name("tcp.bpf.c")
TRACEPOINTS = {
    "tcp_state_by_process": "inet_sock_set_state",
    "tcp_state_by_network": "inet_sock_set_state",
    "tcp_reset_received": "tcp_receive_reset",
    "tcp_reset_sent": "tcp_send_reset",
    "tcp_socket_destroyed": "tcp_destroy_sock",
}
ITERATORS = ("bpf_iter__tcp", "bpf_iter__bpf_map_elem", "bpf_iter__task_file")
MAPS = ["sockets", "clients", "pending", "listeners", "counters", "control", "flows"]
MAX_PENDING = 4096
_PAGE = 4096


def max_flows(settings: Mapping[str, Any]) -> int:
    """How many sockets the kernel's map can hold."""
    return int(settings.get("max_flows", 131072))


def ring_bytes(settings: Mapping[str, Any]) -> int:
    """The ring's size: the next power of two of at least a page, as the kernel requires."""
    return max(_PAGE, 1 << (int(settings.get("ring_size", 8 << 20)) - 1).bit_length())


def request(settings: Mapping[str, Any]) -> Request:
    """The programs for these settings."""
    return Request(
        PROGRAM.read_text(),
        {
            "MAX_FLOWS": max_flows(settings),
            "MAX_PENDING": MAX_PENDING,
            "RING_PAGES": ring_bytes(settings) // _PAGE,
        },
        dict.fromkeys(TRACEPOINTS, RAW_TRACEPOINT) | dict.fromkeys(ITERATORS, ITERATOR),
        MAPS,
    )
