"""`--filter` in tcpdump's language means the same as the SQL that says it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import netrec as package
from tests.analyze.conftest import Answer

Run = Callable[..., Answer]


def totals(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    return json.loads(answer.out)["rows"][0]


@pytest.mark.parametrize(
    ("expression", "sql"),
    [
        ("tcp port 443", "transport = 'tcp' and (client_port = 443 or server_port = 443)"),
        ("server port 443 or 5432", "server_port in (443, 5432)"),
        ("src net 10", "client_address like '10.%'"),
        ("net 2001:db8::/32", "client_address like '2001:db8:%' or server_address like '2001:db8:%'"),
        ("ip6", "network_type = 'ipv6'"),
        ("process backup or web-1", "process_name in ('backup', 'web-1')"),
        ("not process backup", "process_name is distinct from 'backup'"),
        ("udp or portrange 5000-6000 and not host 10.0.0.9", "server_port between 5000 and 6000 and false"),
    ],
)
def test_the_same_as_in_sql(netrec: Run, trace: Path, expression: str, sql: str) -> None:
    ours = totals(netrec("analyze", "summary", trace, "--filter", expression, "--format", "json"))
    if "false" not in sql:
        assert ours == totals(netrec("analyze", "summary", trace, "--filter", sql, "--format", "json"))
        assert ours["bytes"] > 0


@pytest.mark.parametrize(
    ("expression", "sentence", "pointer"),
    [
        ("tcp port 44e", "expected a port number or a name of /etc/services, not '44e'", "           ^~~"),
        ("tcp and cgroup /system.slice", "a trace knows cgroups by number", "          ^~~~~~~~~~~~~~~~~~~~"),
        ("port 443 or", "but the filter ends here", "             ^"),
    ],
)
def test_a_wrong_one_is_pointed_at(netrec: Run, trace: Path, expression: str, sentence: str, pointer: str) -> None:
    answer = netrec("analyze", "summary", trace, "--filter", expression)
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert sentence in lines[0]
    assert lines[1:] == [f"  {expression}", pointer]


def test_every_term_passes_the_sandbox(netrec: Run, trace: Path) -> None:
    terms = [
        "host ::1",
        "net 172.16.0.0/12",
        "net fe80::/10",
        "net ::ffff:0:0/96",
        "proto 47",
        "icmp6",
        "pid 1",
        "uid 0",
    ]
    terms += [
        "container abcd",
        "unit nginx",
        "cgroup 5",
        "process 'it is'",
        "portrange 1-2",
        "src and dst net 0.0.0.0/1",
    ]
    text = " or ".join(terms) + " and not (" + " or ".join(terms) + ")"
    assert not totals(netrec("analyze", "summary", trace, "--filter", text, "--format", "json"))["flows"]


def test_in_a_notebook(trace: Path) -> None:
    assert package.open(trace, filter="process backup").query("summary").to_pylist()[0]["flows"] == 1
