"""Whole TCP sessions, through a transparent proxy of netrec's own: gateways and a host's own connections.

plan.py checks.py rehearsal.py   what would be put in place; whether it can be; tried where nobody sees it
guard.py nftables.py             the process that owns the rules, and takes them away when anything goes wrong
worker.py relay.py session.py dial.py pipes.py   the proxy: a process a core, one epoll loop in each
tls.py http.py                   what the first bytes of a session tell
wire.py journal.py rows.py       a worker's records -> the flows table
crew.py guard_client.py processes.py   the recorder's end of workers and guard
recorder_source.py               the life cycle
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netrec.errors import NetrecError
from netrec.text import parse_duration
from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification


def can_run(settings: Mapping[str, Any]) -> Readiness:
    """Whether the rules can be put in place here; never raises, changes nothing."""
    from recorder.sources.tproxy import checks

    try:
        if settings:
            checks.prepare(settings)
        else:
            checks.check_host()
    except NetrecError as problem:
        return Readiness(False, problem.message, problem.hint)
    except Exception as problem:
        return Readiness(False, f"the check itself failed ({problem})", "netrec --debug record ... shows where")
    return Readiness(True)


def _create(context: CaptureContext) -> Source:
    from recorder.sources.tproxy.recorder_source import create

    return create(context)


def explain(settings: Mapping[str, Any]) -> str:
    """Every rule and route that a recording with these settings would add."""
    from recorder.sources.tproxy import checks

    return checks.prepare(settings).text()


def _whole(text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _port(text: str) -> int:
    if not text.strip().isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"{text!r} is not a port; write a number from 1 to 65535")
    return int(text)


def _mark(text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = 0
    if number <= 0 or number >= 1 << 32 or number & (number - 1):
        raise ValueError(f"{text!r} is not one mark bit; write for example 0x10000000")
    return number


def _drain(text: str) -> float:
    return parse_duration(text, allow_zero=True)


SOURCE = SourceSpecification(
    name="tproxy",
    summary="whole TCP sessions with TLS server name and HTTP request, through netrec's own transparent proxy",
    tables=("flows",),
    first_question="analyze sessions",
    can_run=can_run,
    create=_create,
    explain=explain,
    filters="addresses",
    settings=(
        Setting("interface", (), "Proxy TCP that comes in by this interface of a gateway.", str, "NAME", True),
        Setting("local", False, "Proxy the TCP connections that this host itself opens.", bool),
        Setting("no-spoof", False, "Dial servers with the gateway's own address, not the client's.", bool),
        Setting("http-query", False, "Record the query strings of HTTP requests too.", bool),
        Setting("port", None, "Listen on this port of loopback (default: any free one).", _port, "PORT"),
        Setting("mark", None, "Use this firewall mark bit (default: one that is free).", _mark, "BIT"),
        Setting("workers", None, "Worker processes (default: one for each core).", _whole, "N"),
        Setting("max-sessions", 10000, "Sessions at once in one worker; more pass by the proxy.", _whole, "N"),
        Setting("drain-timeout", 5.0, "At the end, let open sessions finish for so long.", _drain, "TIME"),
        Setting("force", False, "Go on although a check says that sessions might break.", bool),
    ),
)
