"""Lines of HAProxy, Envoy and Squid -> sessions, and lines that are none -> a reason."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.sources.proxy_logs import envoy, haproxy, squid
from recorder.sources.proxy_logs.session import LoggedSession, Unfit, batch, endpoint

TCP = "10.0.1.2:33317 [23/Nov/2026:01:02:03.655] fnt bck/srv1 1/5/5007 2120 -- 1/1/1/1/0 0/0"
HTTP = (
    "10.0.1.2:33317 [23/Nov/2026:01:02:03.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- "
    '1/1/1/1/0 0/0 {1wt.eu} {} "GET /index.html?a=b HTTP/1.1"'
)
HTTPS = HTTP.replace("{1wt.eu} {} ", "") + " 0/0000000000000000/0/0/0 1wt.eu/TLSv1.3/TLS_AES_256_GCM_SHA384"


def local(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").astimezone().timestamp() * 1e6)


def utc(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1_000_000)  # type: ignore[arg-type, misc]


def test_haproxy_tcplog() -> None:
    found = haproxy.parser("tcp", False)(TCP)
    assert found == LoggedSession(
        start_time=local("2026-11-23 01:02:03.655"),
        end_time=local("2026-11-23 01:02:03.655") + 5_007_000,
        client_address="10.0.1.2",
        client_port=33317,
        server_bytes=2120,
        connect_latency_us=5000,
        tcp_close="fin",
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "<134>Nov 23 01:02:03 haproxy[14389]: ",
        "<134>1 2026-11-23T01:02:03+00:00 web haproxy 14389 - - ",
        "Nov 23 01:02:03 web haproxy[14389]: ",
        "2026-11-23T01:02:03.655+01:00 web haproxy[1]: ",
    ],
)
@pytest.mark.parametrize("line", [TCP, HTTP, HTTPS])
def test_haproxy_behind_any_syslog_and_without_naming_the_format(prefix: str, line: str) -> None:
    parse = haproxy.parser("", False)
    for _ in range(2):
        found = parse(prefix + line)
        assert (found.client_address, found.client_port) == ("10.0.1.2", 33317)
        assert found.server_bytes in (2120, 2750)


def test_haproxy_httplog_and_httpslog() -> None:
    found = haproxy.parser("http", False)(HTTP)
    assert (found.http_method, found.http_path, found.http_status) == ("GET", "/index.html", 200)
    assert (found.time_to_first_byte_us, found.connect_latency_us) == (109_000, 30_000)
    assert haproxy.parser("http", True)(HTTP).http_path == "/index.html?a=b"
    found = haproxy.parser("https", False)(HTTPS)
    assert (found.server_name, found.server_name_source, found.tls_version) == ("1wt.eu", "tls", "1.3")
    no_name = haproxy.parser("https", False)(HTTPS.replace("1wt.eu/TLSv1.3", "-/TLSv1.2"))
    assert (no_name.server_name, no_name.tls_version) == (None, "1.2")


@pytest.mark.parametrize(
    ("state", "times", "expected"),
    [
        ("--", "1/5/9", ("fin", None)),
        ("CD", "1/5/9", ("rst_received", "client")),
        ("SD", "1/5/9", ("rst_received", "server")),
        ("SC", "1/-1/9", ("connect_failed", "server")),
        ("sC", "1/-1/9", ("connect_failed", "server")),
        ("cD", "1/5/9", ("timeout", "client")),
        ("sD", "1/5/9", ("timeout", "server")),
        ("PC", "1/-1/9", ("connect_failed", "proxy")),
        ("KD", "1/5/9", ("rst_sent", "proxy")),
    ],
)
def test_haproxy_termination_states(state: str, times: str, expected: tuple[str, str | None]) -> None:
    found = haproxy.parser("tcp", False)(TCP.replace(" -- ", f" {state} ").replace("1/5/5007", times))
    assert (found.tcp_close, found.closed_by) == expected
    assert found.connect_latency_us == (None if "-1" in times else 5000)


def test_haproxy_log_format_strings() -> None:
    parse = haproxy.parser('%ci:%cp -> %fi:%fp %Ts.%ms up=%U down=%B %Tt %ts %{+Q}[ssl_fc_sni] "%HM %HU %HV"', False)
    found = parse(
        '2001:db8::1:4000 -> 2001:db8::2:443 1795395723.250 up=12 down=+3456 10 CD "e.org" "PUT /x?y HTTP/1.1"'
    )
    assert (found.client_address, found.client_port) == ("2001:db8::1", 4000)
    assert (found.server_address, found.server_port) == ("2001:db8::2", 443)
    assert (found.client_bytes, found.server_bytes, found.start_time) == (12, 3456, 1_795_395_723_250_000)
    assert (found.server_name, found.http_method, found.http_path) == ("e.org", "PUT", "/x")
    with pytest.raises(ValueError, match="no time"):
        haproxy.parser("%ci:%cp %B", False)
    with pytest.raises(ValueError, match="client's address"):
        haproxy.parser("[%t] %B", False)


ENVOY = (
    '[2026-11-23T01:02:03.310Z] "POST /api/v1/x?id=7 HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "curl/8" '
    '"cc21d9b0-cf5c-432b-8c7e-98aeb7988cd2" "locations.example:8443" "10.0.2.1:80"'
)


def test_envoys_default_format() -> None:
    found = envoy.parser("", False)(ENVOY)
    assert found == LoggedSession(
        start_time=utc(2026, 11, 23, 1, 2, 3, 310000),
        end_time=utc(2026, 11, 23, 1, 2, 3, 536000),
        client_address="10.0.35.28",
        server_address="10.0.2.1",
        server_port=80,
        client_bytes=154,
        server_bytes=0,
        server_name="locations.example",
        server_name_source="http",
        http_method="POST",
        http_host="locations.example:8443",
        http_path="/api/v1/x",
        http_status=204,
        tcp_close="fin",
    )


def test_envoys_other_formats() -> None:
    line = (
        '{"start_time": "2026-11-23T01:02:03.310Z", "downstream_remote_address": "10.0.0.9:4000", "bytes_sent": 5, '
        '"bytes_received": "6", "response_flags": "UF", "upstream_host": "[2001:db8::5]:443", "duration": 3, '
        '"requested_server_name": "S.example", "method": null, "response_code": 0}'
    )
    found = envoy.parser("", False)(line)
    assert (found.client_address, found.client_port, found.server_address) == ("10.0.0.9", 4000, "2001:db8::5")
    assert (found.server_bytes, found.client_bytes, found.http_status) == (5, 6, None)
    assert (found.tcp_close, found.closed_by, found.server_name) == ("connect_failed", "server", "s.example")
    parse = envoy.parser("%START_TIME% %DOWNSTREAM_REMOTE_ADDRESS% %BYTES_SENT% %RESPONSE_FLAGS%\\n", False)
    found = parse("2026-11-23T01:02:03.310Z 10.0.0.9:1 99 DC")
    assert (found.client_port, found.server_bytes, found.closed_by) == (1, 99, "client")
    with pytest.raises(ValueError, match="START_TIME"):
        envoy.parser("%BYTES_SENT%", False)


def test_squids_native_format() -> None:
    line = (
        "1795395723.603    310 10.0.0.5 TCP_MISS/200 1234 GET http://Example.org/a?b - "
        "ORIGINAL_DST/10.2.0.2 text/html;charset=utf-8"
    )
    assert squid.parser("", False)(line) == LoggedSession(
        start_time=1_795_395_723_293_000,
        end_time=1_795_395_723_603_000,
        client_address="10.0.0.5",
        server_address="10.2.0.2",
        server_bytes=1234,
        server_name="example.org",
        server_name_source="http",
        http_method="GET",
        http_host="Example.org",
        http_path="/a",
        http_status=200,
        tcp_close="fin",
    )
    tunnel = "1795395723.603 9 10.0.0.5 TCP_TUNNEL/200 39 CONNECT 10.2.0.2:443 - ORIGINAL_DST/10.2.0.2 -"
    found = squid.parser("squid", False)(tunnel)
    assert (found.http_method, found.server_port, found.server_address) == ("CONNECT", 443, "10.2.0.2")
    aborted = squid.parser("", False)(line.replace("TCP_MISS/200", "TCP_MISS_ABORTED/000"))
    assert (aborted.closed_by, aborted.tcp_close, aborted.http_status) == ("client", "rst_received", None)


def test_squids_logformat_strings() -> None:
    parse = squid.parser('%>a:%>p %<a:%<p [%tl] "%rm %ru HTTP/%rv" %>Hs %<st %>st %tr %ssl::>sni %Ss:%Sh', False)
    found = parse(
        '10.0.0.5:41000 10.2.0.2:80 [23/Nov/2026:01:02:03 +0000] "GET http://e.org/x HTTP/1.1" 200 900 80 12 - '
        "TCP_MISS:ORIGINAL_DST"
    )
    assert (found.client_port, found.server_port, found.client_bytes, found.server_bytes) == (41000, 80, 80, 900)
    assert found.end_time == utc(2026, 11, 23, 1, 2, 3)
    assert found.start_time == found.end_time - 12_000
    with pytest.raises(ValueError, match="no time"):
        squid.parser("%>a", False)


@pytest.mark.parametrize("parse", [haproxy.parser("", False), envoy.parser("", False), squid.parser("", False)])
@given(st.text(max_size=200))
def test_anything_else_is_unfit_with_a_reason(parse: object, line: str) -> None:
    with pytest.raises(Unfit) as caught:
        parse(line)  # type: ignore[operator]
    assert str(caught.value)


@pytest.mark.parametrize(
    ("parse", "line"),
    [(haproxy.parser("", False), HTTPS), (envoy.parser("", False), ENVOY), (haproxy.parser("tcp", False), TCP)],
)
@given(st.integers(0, 300), st.characters(codec="ascii"))
def test_a_damaged_line_is_a_session_or_unfit(parse: object, line: str, place: int, other: str) -> None:
    place %= len(line)
    try:
        found = parse(line[:place] + other + line[place + 1 :])  # type: ignore[operator]
    except Unfit:
        return
    assert batch([found], "x", "y").num_rows == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("2001:DB8::1", ("2001:db8::1", None)),
        ("::ffff:10.0.0.1", ("10.0.0.1", None)),
        ("-", (None, None)),
        ("/run/x.sock", (None, None)),
    ],
)
def test_endpoints(text: str, expected: tuple[str | None, int | None]) -> None:
    assert endpoint(text) == expected
