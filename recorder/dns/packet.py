"""An IP packet's bytes -> which DNS conversation it belongs to, in which direction, and its payload."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from recorder.dns.observer import Conversation

DNS_PORT = 53
_TCP, _UDP = 6, 17
_PORTS = struct.Struct("!HH")
# Hop-by-hop options, routing, destination options: each says how long it is and what follows.
_SKIPPED_EXTENSIONS = (0, 43, 60)
_FRAGMENT = 44
_MAXIMUM_EXTENSIONS = 8
_SYN, _FIN, _RESET = 2, 1, 4


class DnsPacket(NamedTuple):
    """`sequence` is the number of the payload's first byte (TCP; after a SYN of the byte that will come next).

    `opens` and `closes` tell a TCP connection's first and last packets of this direction.
    """

    conversation: Conversation
    from_server: bool
    payload: bytes
    sequence: int | None = None
    opens: bool = False
    closes: bool = False


def dissect(packet: bytes) -> DnsPacket | None:
    """A packet from its IP header on (IPv4 or IPv6); None when it is not DNS over UDP or TCP, a later fragment, or cut.

    Port 53 is the server's; when both ports are 53 the flag in the payload tells an answer.
    """
    located = _transport(packet)
    if located is None:
        return None
    family, source, destination, protocol, start, end = located
    if protocol not in (_TCP, _UDP) or end - start < 8:
        return None
    source_port, destination_port = _PORTS.unpack_from(packet, start)
    if DNS_PORT not in (source_port, destination_port):
        return None
    sequence, opens, closes = None, False, False
    header = 8
    if protocol == _TCP:
        if end - start < 20:
            return None
        header = (packet[start + 12] >> 4) * 4
        flags = packet[start + 13]
        opens, closes = bool(flags & _SYN), bool(flags & (_FIN | _RESET))
        sequence = (int.from_bytes(packet[start + 4 : start + 8], "big") + opens) & 0xFFFFFFFF
        if header < 20:
            return None
    payload = packet[start + header : end]
    from_server = source_port == DNS_PORT
    if source_port == destination_port:
        flags_at = 4 if protocol == _TCP else 2
        from_server = len(payload) > flags_at and bool(payload[flags_at] & 0x80)
    ends = [(socket.inet_ntop(family, source), source_port), (socket.inet_ntop(family, destination), destination_port)]
    (client, client_port), (server, server_port) = reversed(ends) if from_server else ends
    conversation = Conversation(client, client_port, server, server_port, "tcp" if protocol == _TCP else "udp")
    return DnsPacket(conversation, from_server, payload, sequence, opens, closes)


def _transport(packet: bytes) -> tuple[socket.AddressFamily, bytes, bytes, int, int, int] | None:
    """Address family, addresses, protocol, and where the transport's header starts and the packet ends."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        start = (packet[0] & 15) * 4
        later_fragment = (packet[6] & 0x1F) or packet[7]
        end = min(len(packet), int.from_bytes(packet[2:4], "big"))
        if start < 20 or later_fragment:
            return None
        return socket.AF_INET, packet[12:16], packet[16:20], packet[9], start, end
    if len(packet) >= 40 and packet[0] >> 4 == 6:
        start, following = 40, packet[6]
        end = min(len(packet), 40 + int.from_bytes(packet[4:6], "big"))
        for _ in range(_MAXIMUM_EXTENSIONS):
            if following not in (*_SKIPPED_EXTENSIONS, _FRAGMENT) or start + 8 > end:
                break
            if following == _FRAGMENT and int.from_bytes(packet[start + 2 : start + 4], "big") >> 3:
                return None
            length = 8 if following == _FRAGMENT else 8 + 8 * packet[start + 1]
            following, start = packet[start], start + length
        return socket.AF_INET6, packet[8:24], packet[24:40], following, start, end
    return None
