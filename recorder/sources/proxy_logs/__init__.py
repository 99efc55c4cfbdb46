"""Sessions from the logs of other proxies: HAProxy, Envoy and Squid.

formats.py session.py            log format strings -> patterns; a line -> a session -> rows
haproxy.py envoy.py squid.py     each proxy's tokens, and what they mean
follow.py written.py             files across rotation, finished files, syslog datagrams; each line once after a kill
recorder_source.py               the life cycle; what does not fit goes to `rejected/`
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netrec.errors import UsageError
from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification

SUMMARIES = {
    "haproxy": "sessions from HAProxy's log (tcplog, httplog, httpslog or a log-format)",
    "envoy": "sessions from Envoy's access log (default text, a format string, or JSON)",
    "squid": "sessions from Squid's access log (native or a logformat)",
}


def _parser(name: str, settings: Mapping[str, Any]) -> Any:
    module = importlib.import_module(f"recorder.sources.proxy_logs.{name}")
    try:
        return module.parser(settings.get("log_format") or "", bool(settings.get("http_query")))
    except ValueError as problem:
        raise UsageError(f"--log-format cannot be used ({problem})", f"copy it from {name}'s configuration") from None


def _can_run(name: str, settings: Mapping[str, Any]) -> Readiness:
    """A log can be read anywhere; with settings: whether this one is named and readable."""
    if not settings:
        return Readiness(True)
    log, syslog = settings.get("log"), settings.get("log_syslog")
    if bool(log) == bool(syslog):
        return Readiness(False, "it needs to know where the log is", "give --log FILE, or --log-syslog ADDRESS")
    if log and not Path(log).exists() and not Path(log).absolute().parent.is_dir():
        return Readiness(False, f"there is no folder for {log}", "name the log file that the proxy writes")
    if log and Path(log).is_dir():
        return Readiness(False, f"{log} is a folder", "name the log file in it")
    try:
        if log and Path(log).exists():
            with Path(log).open("rb"):
                pass
        _parser(name, settings)
    except OSError as problem:
        return Readiness(False, f"{log} cannot be read ({problem.strerror})", "run it as a user who may")
    except UsageError as problem:
        return Readiness(False, problem.message, problem.hint)
    return Readiness(True)


def _specification(name: str) -> SourceSpecification:
    def create(context: CaptureContext) -> Source:
        from recorder.sources.proxy_logs.recorder_source import LogSource

        return LogSource(name, context, _parser(name, context.settings))

    return SourceSpecification(
        name=name,
        summary=SUMMARIES[name],
        tables=("flows",),
        first_question="analyze sessions",
        can_run=lambda settings: _can_run(name, settings),
        create=create,
        filters="addresses",
        settings=(
            Setting("log", None, "The proxy's log file: followed as it grows; also .gz.", str, "FILE"),
            Setting("log-syslog", None, "Receive the log here: udp://ADDRESS:PORT or a Unix socket.", str, "WHERE"),
            Setting("log-format", "", "The format, as the proxy's configuration has it.", str, "FORMAT"),
            Setting("log-once", False, "End at the end of the file instead of following it.", bool),
            Setting("http-query", False, "Record the query strings of HTTP requests too.", bool),
        ),
    )


SOURCES = tuple(_specification(name) for name in SUMMARIES)
