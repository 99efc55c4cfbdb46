"""IP protocol numbers and the names under which the trace and the filter language know them."""

from __future__ import annotations

# `transport` in a trace: OpenTelemetry's names for tcp and udp, IANA's keywords (lower case) for the others,
# but for ICMPv6, which everybody calls icmp6 as tcpdump does.
TRANSPORT_NAMES: dict[int, str] = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmp6",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}
TRANSPORT_NUMBERS: dict[str, int] = {name: number for number, name in TRANSPORT_NAMES.items()}

# The protocols whose header begins with a source and a destination port, as tcpdump's `port` means it.
WITH_PORTS = (6, 17, 132)


def transport_name(number: int) -> str:
    """The name of an IP protocol number (0 to 255) in `transport`: `tcp`; `protocol-253` when it has none."""
    return TRANSPORT_NAMES.get(number) or f"protocol-{number}"


def transport_number(name: str) -> int | None:
    """The IP protocol number of a `transport` value; None when the name is not one of netrec's."""
    known = TRANSPORT_NUMBERS.get(name)
    if known is not None:
        return known
    prefix, _, number = name.partition("-")
    return int(number) if prefix == "protocol" and number.isdigit() and int(number) < 256 else None
