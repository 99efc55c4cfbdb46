from __future__ import annotations

import pytest
from hypothesis import given, settings

from netrec.filter.dialect import is_expression
from tests.support.filter_flows import filters


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port 443", True),
        ("not (src net 10.0.0.0/8 or host ::1)", True),
        ("!tcp", True),
        ("((not not udp))", True),
        ("port htp", True),  # wrong, but meant so
        ("process 'a = b, like (1)'", True),
        ("host web1", True),
        ("server_port = 443", False),
        ("host = 'web1'", False),
        ("host in ('a', 'b')", False),
        ("host like 'web'", False),
        ("host is not null", False),
        ("not duplicate", False),
        ("duplicate", False),
        ("true", False),
        ("client_bytes + server_bytes > 5", False),
        ("prot 443", False),
        ("notcp", False),
        ("", False),
        ("(", False),
    ],
)
def test_which_language(text: str, expected: bool) -> None:
    assert is_expression(text) is expected


@settings(max_examples=200)
@given(filters())
def test_every_filter_is_recognised(text: str) -> None:
    assert is_expression(text), text
