"""Where a wrong filter is wrong: the place, and what was expected."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netrec.errors import FilterError
from netrec.filter import parse
from netrec.filter.nodes import Address, Owner, Port, terms
from netrec.filter.parser import MAXIMUM_DEPTH, MAXIMUM_LENGTH
from tests.support.filter_flows import filters


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("port 80 or port htp", "htp", "port number or a name of /etc/services, not 'htp'"),
        ("tcp and net 10.1.2.3/8", "10.1.2.3/8", "the network is 10.0.0.0/8"),
        ("net 10.0.0.0 mask 255.0.255.0", "10.0.0.0", "no prefix length or contiguous mask"),
        ("net 10.0.0.0 mask 0.255.255.255", "10.0.0.0", "mask"),
        ("tcp host 10.0.0.1", "tcp", "host goes with ip or ip6, not with tcp"),
        ("tcp[13] = 2", "[", "bytes of a packet"),
        ("10.0.0.1 or tcp", "10.0.0.1", "write host 10.0.0.1"),
        ("tcp or 443", "443", "write port 443"),
        ("ether host 1:2:3:4:5:6", "ether", "a flow does not have"),
        ("port 80 and (tcp or udp", "", "closing parenthesis, but the filter ends here"),
        ("port 80 ) tcp", ")", "has no opening one"),
        ("process 'nginx", "'nginx", "not closed"),
        ("port (80 or tcp)", "tcp", "a value of port"),
        ("user no-such-user", "no-such-user", "there is no user"),
        ("pid nginx", "nginx", "expected a pid"),
        ("cgroup system.slice", "system.slice", "starts with /"),
        ("container xyz", "xyz", "container's id"),
        ("server proto 6", "proto", "no direction"),
        ("port 0800", "0800", "leading zero"),
        ("src or client port 80", "client", "same side"),
        ("host 10.0.0.300", "10.0.0.300", "IPv4 or IPv6 address"),
        ("host no-such-host.invalid", "no-such-host.invalid", "cannot be looked up"),
        ("tcp & udp", "&", "no meaning"),
        ("pid 0", "0", "expected a pid"),
        ("process ''", "''", "name of a process"),
        ("proto 256", "256", "at most 255"),
        ("portrange 80-99999", "80-99999", "at most 65535"),
    ],
)
def test_points_at_the_place(text: str, place: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    error = caught.value
    start, end = error.span
    assert message in str(error)
    assert text[start:end] == place
    if place:
        assert error.details == (text, " " * text.index(place) + "^" + "~" * (len(place) - 1))
    else:
        assert error.details == (text, " " * len(text) + "^")


def test_limits() -> None:
    parse("not " * (MAXIMUM_DEPTH - 1) + "tcp")
    parse(" or ".join(["tcp"] * 1000))
    for text in ["not " * 5000 + "tcp", "(" * 3000 + "tcp" + ")" * 3000, "tcp or " * MAXIMUM_LENGTH + "tcp", "", " \n"]:
        with pytest.raises(FilterError):
            parse(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("tcp udorn&|!()[]'\"\\1.:/-\n\x1b‮é")), max_size=30))
def test_any_text_parses_or_is_refused_at_a_place(text: str) -> None:
    try:
        parse(text)
    except FilterError as error:
        start, end = error.span
        assert 0 <= start <= end <= len(text)
        assert all(line.isprintable() for line in error.details)


@settings(max_examples=200, deadline=None)
@given(filters(), st.data())
def test_a_damaged_filter_parses_or_is_refused(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    cut = (
        text[:place]
        + data.draw(st.sampled_from(["", "(", ")", " not ", "!", " 80 ", " tcp ", "'", " src "]))
        + text[place + 1 :]
    )
    try:
        parse(cut)
    except FilterError as error:
        assert error.message


def test_nodes_know_their_place() -> None:
    text = "tcp port 443 and (src net 10.0.0.0 mask 255.0.0.0 or process nginx)"
    found = {type(term): text[slice(*term.span)] for term in terms(parse(text))}
    assert found == {Port: "tcp port 443", Address: "src net 10.0.0.0 mask 255.0.0.0", Owner: "process nginx"}


def test_the_command_line_shows_the_pointer() -> None:
    program = (
        "import sys; from netrec import cli; from netrec.filter import parse\n"
        "cli.root.main = lambda *a, **k: parse('port 80 or prot 81')\n"
        "cli.main([])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[1:] == ["  port 80 or prot 81", "             ^~~~"]
    assert lines[0].startswith("netrec: expected a port number or a name of /etc/services, not 'prot'")
