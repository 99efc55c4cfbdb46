"""The parser against dnspython on messages that dnspython makes, and against bytes that nobody should send."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from itertools import pairwise
from random import Random

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recorder.dns.framing import TcpFraming
from recorder.dns.message import AddressRecord, DnsFormatError, parse

LABEL = st.binary(min_size=1, max_size=20) | st.sampled_from([b"www", b"EXAMPLE", b"com", b"a" * 63, b"x.y", b"_srv"])
NAMES = st.lists(LABEL, min_size=1, max_size=5).filter(lambda labels: sum(map(len, labels)) + len(labels) < 250)
ADDRESSES = st.ip_addresses().map(str)


def wire_name(labels: list[bytes]) -> dns.name.Name:
    return dns.name.Name([*labels, b""])


@st.composite
def answers(draw: st.DrawFn) -> tuple[dns.message.Message, set[tuple[str, int]]]:
    """A response with a chain of aliases that ends in addresses, and records that do not belong to it."""
    chain = [wire_name(labels) for labels in draw(st.lists(NAMES, min_size=1, max_size=4))]
    # Two equal links would make the chain a loop: legal to read, but the truth below would not hold.
    if len({name.canonicalize() for name in chain}) < len(chain):
        chain = chain[:1]
    kind = draw(st.sampled_from(["A", "AAAA"]))
    query = dns.message.make_query(chain[0], kind, use_edns=draw(st.sampled_from([-1, 0])))
    response = dns.message.make_response(query)
    least = 2**31 - 1
    for name, target in pairwise(chain):
        ttl = draw(st.integers(0, 2**31 - 1))
        least = min(least, ttl)
        response.answer.append(dns.rrset.from_text(name, ttl, "IN", "CNAME", target.to_text()))
    truth = set()
    version = 4 if kind == "A" else 6
    addresses = draw(st.lists(st.ip_addresses(v=version), unique=True, max_size=5))
    if addresses:
        ttl = draw(st.integers(0, 2**31 - 1))
        response.answer.append(dns.rrset.from_text(chain[-1], ttl, "IN", kind, *map(str, addresses)))
        truth = {(str(ip_address(address)), min(ttl, least)) for address in addresses}
    stranger = dns.name.from_text("not-in-the-chain.invalid.")
    response.answer.append(dns.rrset.from_text(stranger, 60, "IN", "A", "192.0.2.66"))
    response.authority.append(dns.rrset.from_text(chain[0], 60, "IN", "NS", "ns.example."))
    response.additional.append(dns.rrset.from_text(chain[0], 60, "IN", "A", "192.0.2.67"))
    response.set_rcode(draw(st.sampled_from([0, 2, 3, 5, 16] if query.edns >= 0 else [0, 2, 3, 5])))
    return response, truth


@settings(max_examples=150, deadline=None)
@given(answers())
def test_agrees_with_dnspython(made: tuple[dns.message.Message, set[tuple[str, int]]]) -> None:
    response, truth = made
    found = parse(response.to_wire(max_size=65535))
    assert found.is_answer and found.whole
    assert found.identifier == response.id
    assert found.code == dns.rcode.to_text(response.rcode())
    assert found.type == dns.rdatatype.to_text(response.question[0].rdtype)
    assert {(str(ip_address(record.address)), record.ttl) for record in found.addresses} == truth
    # The same name, read back from our text by dnspython.
    assert dns.name.from_text(found.name) == response.question[0].name


@settings(max_examples=60, deadline=None)
@given(answers(), st.data())
def test_cut_off_anywhere(made: tuple[dns.message.Message, set[tuple[str, int]]], data: st.DataObject) -> None:
    response, truth = made
    wire = response.to_wire(max_size=65535)
    cut = wire[: data.draw(st.integers(0, len(wire) - 1))]
    try:
        found = parse(cut)
    except DnsFormatError:
        return
    assert not found.whole
    assert {(str(ip_address(record.address)), record.ttl) for record in found.addresses} <= truth


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff" * 512)
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    try:
        found = parse(payload)
    except DnsFormatError:
        return
    assert found.name.isascii() and found.name.isprintable()


@settings(max_examples=150, deadline=None)
@given(answers(), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_messages(
    made: tuple[dns.message.Message, set[tuple[str, int]]], changes: list[tuple[int, int]]
) -> None:
    wire = bytearray(made[0].to_wire(max_size=65535))
    for place, value in changes:
        wire[place % len(wire)] = value
    try:
        found = parse(bytes(wire))
    except DnsFormatError:
        return
    assert all(ip_address(record.address) and record.ttl >= 0 for record in found.addresses)


HEADER = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (b"\xc0\x0c", "does not lead back"),  # to itself
        (b"\xc0\x0e\xc0\x0c", "does not lead back"),  # there and back
        (b"\xc0\xff", "does not lead back"),  # past the end
        (b"\x01a\xc0\x0c\x00\x01\x00\x01", "255 bytes"),  # a loop that adds a label each time
        (b"\x40" + b"a" * 64, "unknown type"),
        (b"\x3f" + b"a" * 10, "cut off"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\x00", "255 bytes"),
        (b"\x01a\x00\x00", "question is cut off"),
    ],
)
def test_hostile_names_are_refused(question: bytes, why: str) -> None:
    with pytest.raises(DnsFormatError, match=why):
        parse(HEADER + question)


def test_many_claimed_records_take_no_time() -> None:
    wire = struct.pack("!HHHHHH", 7, 0x8180, 1, 65535, 65535, 65535) + b"\x01a\x00\x00\x01\x00\x01"
    assert parse(wire).addresses == () and not parse(wire).whole


def test_pointers_that_chase_pointers_end() -> None:
    # 30,000 pointers, each to the one before: a name that takes that many steps is refused after 255.
    start = 12 + 7
    chain = b"".join(struct.pack("!H", 0xC000 | (start - 7 if not i else start + 2 * (i - 1))) for i in range(8000))
    wire = struct.pack("!HHHHHH", 7, 0x8180, 1, 2, 0, 0) + b"\x01a\x00\x00\x01\x00\x01" + chain
    try:
        parse(wire)
    except DnsFormatError:
        pass


def test_queries_and_other_kinds_of_message() -> None:
    query = parse(dns.message.make_query("WWW.Example.COM", "AAAA", use_edns=0).to_wire())
    assert (query.is_answer, query.name, query.type, query.addresses) == (False, "www.example.com", "AAAA", ())
    with pytest.raises(DnsFormatError, match="standard query"):
        update = dns.message.make_query("example.com", "SOA")
        update.set_opcode(5)  # type: ignore[arg-type]
        parse(update.to_wire())
    truncated = dns.message.make_response(dns.message.make_query("example.com", "A"))
    truncated.flags |= dns.flags.TC
    assert parse(truncated.to_wire()).truncated and not parse(truncated.to_wire()).whole
    assert parse(dns.message.make_query(".", "NS").to_wire()).name == "."


def test_a_time_to_live_with_the_highest_bit_is_zero() -> None:
    wire = HEADER + b"\x01a\x00\x00\x01\x00\x01" + b"\xc0\x0c\x00\x01\x00\x01\xff\xff\xff\xff\x00\x04\x01\x02\x03\x04"
    assert parse(wire).addresses == (AddressRecord("1.2.3.4", 0),)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_over_tcp_in_any_segments(messages: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framing = TcpFraming()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += framing.feed("one", stream[start:end])
        framing.feed("other", b"\xff\xffnever whole")
    assert found == messages


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_segments_that_come_again_count_once(messages: list[bytes], start: int, seed: int) -> None:
    chance = Random(seed)
    stream = b"".join(len(message).to_bytes(2, "big") + message for message in messages)
    framing = TcpFraming()
    found = []
    position = 0
    while position < len(stream):
        # From anywhere that was sent already: a retransmission, whole or in part.
        begin = chance.randint(0, position)
        end = chance.randint(begin + 1, len(stream))
        found += framing.feed("one", stream[begin:end], (start + begin) % 2**32)
        position = max(position, end)
    assert found == messages


def test_after_a_missed_segment_a_direction_is_silent_until_it_begins_anew() -> None:
    framing = TcpFraming()
    assert framing.feed("one", b"\0\5he", 100) == []
    assert framing.feed("one", b"\0\1x", 110) == []
    assert framing.feed("one", b"\0\1y", 113) == []
    framing.forget("one")
    assert framing.feed("one", b"\0\1z", 5) == [b"z"]


def test_framing_keeps_a_bounded_number_of_directions() -> None:
    framing = TcpFraming()
    for number in range(10_000):
        framing.feed(number, b"\xff\xff" + bytes(1000))
    assert len(framing) == 128
    framing.forget(9_999)
    assert len(framing) == 127
