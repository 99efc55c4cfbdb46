"""The HTTP/1 head parser: a corpus, h11 as the judge, and anything at all."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.sources.tproxy import http
from recorder.sources.tproxy.http import NOTHING, Request

CORPUS = {
    "plain": (b"GET /a/b HTTP/1.1\r\nHost: www.example.org\r\n\r\n", Request("GET", "www.example.org", "/a/b")),
    "port in the host": (b"GET / HTTP/1.1\r\nhost:  e.org:8080 \r\n\r\n", Request("GET", "e.org:8080", "/")),
    "the query is left out": (b"GET /s?q=secret#x HTTP/1.1\r\nHost: e\r\n\r\n", Request("GET", "e", "/s")),
    "HTTP/1.0 without a host": (b"HEAD /x HTTP/1.0\r\nA: b\r\n\r\n", Request("HEAD", "", "/x")),
    "host is not the first header": (
        b"POST /p HTTP/1.1\r\nX-Host: no\r\nContent-Length: 2\r\nHOST: yes\r\n\r\nhi",
        Request("POST", "yes", "/p"),
    ),
    "a host in the body is none": (b"POST /p HTTP/1.1\r\nA: b\r\n\r\n\r\nHost: no\r\n", Request("POST", "", "/p")),
    "absolute target": (b"GET http://u:p@e.org:81/x?y HTTP/1.1\r\nA: b\r\n\r\n", Request("GET", "e.org:81", "/x")),
    "absolute target without a path": (b"GET http://e.org HTTP/1.1\r\nA: b\r\n\r\n", Request("GET", "e.org", "/")),
    "connect": (b"CONNECT e.org:443 HTTP/1.1\r\nHost: e.org:443\r\n\r\n", Request("CONNECT", "e.org:443", "")),
    "options": (b"OPTIONS * HTTP/1.1\r\nHost: e\r\n\r\n", Request("OPTIONS", "e", "*")),
    "a method of its own": (b"VERSION-CONTROL / HTTP/1.1\r\nHost: e\r\n\r\n", Request("VERSION-CONTROL", "e", "/")),
    "bare line feeds": (b"GET / HTTP/1.1\nHost: e\n\n", Request("GET", "e", "/")),
    "an empty line first": (b"\r\nGET / HTTP/1.1\r\nHost: e\r\n\r\n", Request("GET", "e", "/")),
    "bytes that are no text": (b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n", Request("GET", "\\xff", "/\\xff\\xfe")),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", NOTHING),
    "SMTP": (b"EHLO client.example\r\n", NOTHING),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NOTHING),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", NOTHING),
    "HTTP/0.9": (b"GET /\r\n", NOTHING),
}


@pytest.mark.parametrize("case", CORPUS)
def test_requests(case: str) -> None:
    data, expected = CORPUS[case]
    assert http.parse_request(data) == expected


@pytest.mark.parametrize("case", CORPUS)
def test_a_request_in_pieces_never_says_anything_else(case: str) -> None:
    data, expected = CORPUS[case]
    early = [http.parse_request(data[:end]) for end in range(1, len(data))]
    assert set(early) <= {None, expected}
    assert early[0] is None or expected == NOTHING


def test_the_query_on_request() -> None:
    found = http.parse_request(b"GET /s?q=1 HTTP/1.1\r\nHost: e\r\n\r\n", keep_query=True)
    assert found == Request("GET", "e", "/s?q=1")


def test_what_never_ends_is_given_up() -> None:
    assert http.parse_request(b"GET /" + b"a" * 100) is None
    assert http.parse_request(b"GET /" + b"a" * http.LIMIT) == NOTHING
    endless = http.parse_request(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 4000)
    assert endless == Request("GET", "", "/")
    long = http.parse_request(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: " + b"h" * 5000 + b"\r\n\r\n")
    assert long is not None
    assert (len(long.path), len(long.host)) == (http.PATH_LIMIT, 255)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404\r\n", 404),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n", 201),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", None),
        (b"HTTP/1.1 101 Switching Protocols\r\n", 101),
        (b"HTTP/1.1 20", None),
        (b"HTT", None),
        (b"SSH-2.0-x\r\n", -1),
        (b"HTTP/2.0 200 OK\r\n", -1),
    ],
)
def test_statuses(data: bytes, expected: int | None) -> None:
    assert http.parse_status(data) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("E.org:80", "e.org"),
        ("e.org.", "e.org"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.1"),
        (":", ""),
    ],
)
def test_names_of_hosts(host: str, expected: str) -> None:
    assert http.name_of(host) == expected


TOKEN = st.text("ABCXYZ-", min_size=1, max_size=10)
VISIBLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)
HEADERS = st.lists(st.tuples(st.sampled_from([b"A", b"X-Long-Name", b"Cookie"]), VISIBLE), max_size=4)


@given(TOKEN, VISIBLE, VISIBLE.filter(bool), HEADERS, st.integers(0, 4))
def test_as_h11_reads_it(method: str, path: str, host: str, headers: list[tuple[bytes, str]], place: int) -> None:
    lines = [name + b": " + value.encode() for name, value in headers]
    lines.insert(place, b"Host: " + host.encode())
    data = f"{method} /{path} HTTP/1.1\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n"
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    event = judge.next_event()
    assert isinstance(event, h11.Request)
    found = http.parse_request(data, keep_query=True)
    assert found == Request(event.method.decode(), dict(event.headers)[b"host"].decode(), event.target.decode())


@given(st.sampled_from([b"", b"GET ", b"GET / HTTP/1.1\r\nHost: ", b"HTTP/1.1 "]), st.binary(max_size=300))
def test_anything_gives_an_answer_in_bounds(start: bytes, rest: bytes) -> None:
    found = http.parse_request(start + rest)
    assert found is None or (len(found.path) <= http.PATH_LIMIT and len(found.host) <= 4 * 255)
    status = http.parse_status(start + rest)
    assert status is None or status == -1 or 100 <= status < 600
