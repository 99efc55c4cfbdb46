"""The ClientHello parser: real hellos made by OpenSSL, hand-made ones, and anything at all."""

from __future__ import annotations

import ssl
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.sources.tproxy import tls

NOTHING = tls.Hello("", "", "")


def openssl_hello(name: str | None, *, alpn: list[str] | None = None, newest: ssl.TLSVersion | None = None) -> bytes:
    """The bytes that a real client sends first."""
    context = ssl.create_default_context()
    if alpn:
        context.set_alpn_protocols(alpn)
    if newest:
        context.maximum_version = newest
    if name is None:
        context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def hello(extensions: list[tuple[int, bytes]], *, legacy: int = 0x0303, records: int = 1) -> bytes:
    """A ClientHello by hand, its message cut into `records` records."""
    body = struct.pack(">H", legacy) + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0"
    packed = b"".join(struct.pack(">HH", kind, len(value)) + value for kind, value in extensions)
    body += struct.pack(">H", len(packed)) + packed
    message = b"\1" + len(body).to_bytes(3, "big") + body
    size = -(-len(message) // records)
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + struct.pack(">H", len(part)) + part for part in parts)


def name_extension(name: bytes) -> tuple[int, bytes]:
    return 0, struct.pack(">HBH", len(name) + 3, 0, len(name)) + name


def alpn_extension(*names: bytes) -> tuple[int, bytes]:
    packed = b"".join(bytes([len(name)]) + name for name in names)
    return 16, struct.pack(">H", len(packed)) + packed


def versions_extension(*numbers: int) -> tuple[int, bytes]:
    return 43, bytes([2 * len(numbers)]) + b"".join(struct.pack(">H", number) for number in numbers)


CORPUS = {
    "plain": (hello([name_extension(b"www.example.org")]), tls.Hello("www.example.org", "1.2", "")),
    "no extensions at all": (hello([]), tls.Hello("", "1.2", "")),
    "TLS 1.0 only": (hello([], legacy=0x0301), tls.Hello("", "1.0", "")),
    "upper case and final dot": (hello([name_extension(b"WWW.Example.ORG.")]), tls.Hello("www.example.org", "1.2", "")),
    "GREASE everywhere": (
        hello(
            [
                (0x2A2A, b""),
                name_extension(b"g.example"),
                alpn_extension(b"\x3a\x3a", b"h2", b"http/1.1"),
                versions_extension(0x6A6A, 0x0304, 0x0303),
                (0xDADA, b"\0"),
            ]
        ),
        tls.Hello("g.example", "1.3", "h2"),
    ),
    "Encrypted Client Hello shows the public name": (
        hello([(0xFE0D, bytes(200)), name_extension(b"public.example"), versions_extension(0x0304)]),
        tls.Hello("public.example", "1.3", ""),
    ),
    "no server name": (hello([versions_extension(0x0304), alpn_extension(b"h3")]), tls.Hello("", "1.3", "h3")),
    "split over three records": (
        hello([name_extension(b"split.example"), versions_extension(0x0304, 0x0303)], records=3),
        tls.Hello("split.example", "1.3", ""),
    ),
    "a name that is no text": (hello([name_extension(b"a\xff\x1b[2Jb")]), tls.Hello("a\\xff\x1b[2jb", "1.2", "")),
    "not TLS": (b"GET / HTTP/1.1\r\n\r\n", NOTHING),
    "an alert": (b"\x15\3\1\0\2\2\x28", NOTHING),
    "a ServerHello": (b"\x16\3\3\0\4\2\0\0\0", NOTHING),
    "extensions longer than the message": (hello([])[:-2] + b"\xff\xff", NOTHING),
}


@pytest.mark.parametrize("case", CORPUS)
def test_hellos(case: str) -> None:
    data, expected = CORPUS[case]
    assert tls.parse(data) == expected


@pytest.mark.parametrize("case", [case for case, (_, expected) in CORPUS.items() if expected != NOTHING])
def test_a_hello_that_comes_in_pieces_needs_all_of_it(case: str) -> None:
    data, expected = CORPUS[case]
    for end in range(1, len(data)):
        assert tls.parse(data[:end]) is None, end
    assert tls.parse(data + b"\x14\3\3\0\1\1") == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"name": "api.example.org", "alpn": ["h2", "http/1.1"]}, tls.Hello("api.example.org", "1.3", "h2")),
        (
            {"name": "old.example.org", "newest": ssl.TLSVersion.TLSv1_2},
            tls.Hello("old.example.org", "1.2", ""),
        ),
        ({"name": None}, tls.Hello("", "1.3", "")),
        ({"name": "xn--bcher-kva.example"}, tls.Hello("xn--bcher-kva.example", "1.3", "")),
    ],
)
def test_what_openssl_sends(arguments: dict, expected: tls.Hello) -> None:
    data = openssl_hello(arguments.pop("name"), **arguments)
    assert tls.looks_like_tls(data[:1])
    assert tls.parse(data) == expected


def test_an_endless_hello_is_given_up() -> None:
    record = b"\x16\3\1" + struct.pack(">H", 4096) + b"\1\0\x3f\xff" + bytes(4092)
    assert tls.parse(record * 3) is None
    assert tls.parse(record + (b"\x16\3\1\0\1\0" * 4000)) == NOTHING


@given(st.binary(max_size=600))
@example(b"\x16\3\1\0\0")
@example(b"\x16\3\1\0\1\1")
def test_anything_gives_an_answer(data: bytes) -> None:
    found = tls.parse(data)
    assert found is None or isinstance(found, tls.Hello)


@given(st.sampled_from(sorted(CORPUS)), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8))
def test_a_damaged_hello_gives_an_answer(case: str, damage: list[tuple[int, int]]) -> None:
    data = bytearray(CORPUS[case][0])
    for place, value in damage:
        data[place % len(data)] = value
    found = tls.parse(bytes(data))
    assert found is None or len(found.server_name) <= 4 * 255
