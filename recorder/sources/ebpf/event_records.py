"""What the event programs count: the structs of events.bpf.c as NumPy dtypes, and the names of their codes."""

from __future__ import annotations

import errno

import numpy as np

EVENT_KEY = np.dtype(
    [
        ("local", "V16"),
        ("remote", "V16"),
        ("netns", "u4"),
        ("reason", "u4"),
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("kind", "u1"),
        ("protocol", "u1"),
        ("role", "u1"),
        ("unused", "u1"),
    ],
    align=True,
)
EVENT = np.dtype(
    [
        ("count", "u8"),
        ("time", "u8"),  # ns, CLOCK_BOOTTIME: the last one
        ("id", "u8"),  # of the flow; 0: none
        ("start", "u8"),  # of the flow
        ("cgroup", "u8"),
        ("pid", "u4"),
        ("uid", "u4"),
        ("comm", "S16"),
        ("owner_source", "u8"),
    ],
    align=True,
)
RETRANSMIT, RESET_SENT, RESET_RECEIVED, CONNECT_FAILED, DROP = range(1, 6)
KINDS = {
    RETRANSMIT: "retransmit",
    RESET_SENT: "reset_sent",
    RESET_RECEIVED: "reset_received",
    CONNECT_FAILED: "connect_failed",
    DROP: "drop",
}
# enum tcp_ca_state of uapi/linux/tcp.h: what the sender took the loss for; and segments of the handshake.
_RETRANSMITS = {0: "open", 1: "disorder", 2: "cwr", 3: "recovery", 4: "loss", 16: "syn", 17: "syn_ack"}
_NOT_ERRORS = {0xFFFF: "closed_by_application", 0xFFFE: "not_sent"}


class ReasonNames:
    """Names of the reasons in events; `enumerations` are the kernel's own skb_drop_reason and sk_rst_reason."""

    def __init__(self, enumerations: dict[str, dict[int, str]]) -> None:
        self._drops = _without_prefix(enumerations.get("skb_drop_reason", {}), "SKB_DROP_REASON_")
        self._resets = _without_prefix(enumerations.get("sk_rst_reason", {}), "SK_RST_REASON_")

    def of(self, kind: int, reason: int) -> str | None:
        """The reason's name; None when the kernel gave none."""
        if kind == RETRANSMIT:
            return _RETRANSMITS.get(reason)
        if kind == CONNECT_FAILED:
            return _NOT_ERRORS.get(reason) or errno.errorcode.get(reason)
        if kind == RESET_SENT:
            return self._resets.get(reason)
        if kind == DROP:
            # Reasons of subsystems (wireless, Open vSwitch) carry the subsystem's number above.
            return self._drops.get(reason) or f"subsystem_{reason >> 16}_reason_{reason & 0xFFFF}"
        return None


def _without_prefix(names: dict[int, str], prefix: str) -> dict[int, str]:
    return {value: name.removeprefix(prefix) for value, name in names.items()}
