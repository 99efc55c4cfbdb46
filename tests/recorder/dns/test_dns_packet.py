from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from recorder.dns.observer import Conversation
from recorder.dns.packet import DnsPacket, dissect

V4 = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 53])
V6 = bytes.fromhex("fd" + "00" * 14 + "01"), bytes.fromhex("fd" + "00" * 14 + "53")
QUERY, ANSWER = b"\x00\x07\x01\x00query", b"\x00\x07\x81\x80answer"


def udp(source: int, destination: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, destination, 8 + len(payload), 0) + payload


def tcp(source: int, destination: int, payload: bytes, flags: int = 0x18, sequence: int = 100) -> bytes:
    options = b"\x01" * 12
    return struct.pack("!HHIIBBHHH", source, destination, sequence, 0, 8 << 4, flags, 0, 0, 0) + options + payload


def ipv4(body: bytes, protocol: int, ends: tuple[bytes, bytes] = V4, fragment: int = 0, options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    header = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + len(body), 0, fragment, 64, protocol, 0)
    return header + ends[0] + ends[1] + options + body


def ipv6(body: bytes, following: int) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), following, 64) + V6[0] + V6[1] + body


CLIENT = Conversation("10.0.0.1", 4000, "10.0.0.53", 53, "udp")


def test_both_directions_over_udp() -> None:
    assert dissect(ipv4(udp(4000, 53, QUERY), 17)) == DnsPacket(CLIENT, False, QUERY)
    answer = dissect(ipv4(udp(53, 4000, ANSWER), 17, V4[::-1]))
    assert answer == DnsPacket(CLIENT, True, ANSWER)
    padded = ipv4(udp(4000, 53, QUERY), 17, options=b"\x01" * 8) + b"ethernet padding"
    assert dissect(padded) == DnsPacket(CLIENT, False, QUERY)


def test_between_two_servers_the_payload_tells() -> None:
    for payload, from_server in ((QUERY, False), (ANSWER, True)):
        found = dissect(ipv4(udp(53, 53, payload), 17))
        assert found and found.from_server is from_server
        over_tcp = dissect(ipv4(tcp(53, 53, b"\0\x0a" + payload), 6))
        assert over_tcp and over_tcp.from_server is from_server


def test_tcp_sequence_and_flags() -> None:
    found = dissect(ipv4(tcp(4000, 53, b"payload"), 6))
    assert found == DnsPacket(CLIENT._replace(transport="tcp"), False, b"payload", 100)
    opening = dissect(ipv4(tcp(4000, 53, b"", flags=2, sequence=2**32 - 1), 6))
    assert opening and opening.opens and opening.sequence == 0
    closing = dissect(ipv4(tcp(4000, 53, b"", flags=0x11), 6))
    assert closing and closing.closes


def test_ipv6_and_its_extensions() -> None:
    body = udp(4000, 53, QUERY)
    plain = dissect(ipv6(body, 17))
    assert plain and plain.payload == QUERY and plain.conversation.client_address == "fd00::1"
    hops = bytes([60, 0]) + bytes(6) + bytes([17, 1]) + bytes(14) + body  # hop-by-hop, then destination options
    assert dissect(ipv6(hops, 0)) == plain
    assert dissect(ipv6(bytes([17, 0, 0, 1]) + bytes(4) + body, 44)) == plain  # the first fragment
    assert dissect(ipv6(bytes([17, 0, 0, 9]) + bytes(4) + body, 44)) is None  # a later one


def test_what_is_no_dns() -> None:
    assert dissect(ipv4(udp(4000, 5353, QUERY), 17)) is None
    assert dissect(ipv4(udp(4000, 53, QUERY), 1)) is None
    assert dissect(ipv4(udp(4000, 53, QUERY), 17, fragment=5)) is None
    assert dissect(b"") is None


@given(st.binary(max_size=120), st.sampled_from([b"", b"\x45", b"\x60", b"\x4f"]))
def test_any_bytes_are_dissected_or_not(tail: bytes, first: bytes) -> None:
    found = dissect(first + tail)
    assert found is None or len(found.payload) <= len(tail)


@given(st.data())
def test_cut_packets(data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([ipv4(tcp(4000, 53, QUERY), 6), ipv6(udp(53, 4000, ANSWER), 17)]))
    found = dissect(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert found is None or len(found.payload) < len(ANSWER)
