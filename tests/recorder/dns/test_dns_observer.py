from __future__ import annotations

import dns.message
import dns.rrset
import pytest

from recorder.dns import observer as module
from recorder.dns.names import MAXIMUM_SECONDS, MINIMUM_SECONDS, NameTable
from recorder.dns.observer import OTHERS, TIMEOUT_US, Conversation, DnsObserver

ENDS = Conversation("10.0.0.1", 40000, "10.0.0.53", 53, "udp")
SECOND = 1_000_000


def names_for(table: NameTable, addresses: list[str], time_us: int) -> list[str | None]:
    return [table.name_for(address, time_us) for address in addresses]


def exchange(name: str, kind: str, *addresses: str, ttl: int = 300, code: int = 0) -> tuple[bytes, bytes]:
    query = dns.message.make_query(name, kind)
    response = dns.message.make_response(query)
    if addresses:
        response.answer.append(dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *addresses))
    response.set_rcode(code)  # type: ignore[arg-type]
    return query.to_wire(), response.to_wire()


def test_names_latency_and_failures() -> None:
    observer = DnsObserver()
    query, answer = exchange("api.example.com", "A", "192.0.2.1", "192.0.2.2")
    observer.observe(query, 1000, ENDS, from_server=False)
    observer.observe(answer, 3500, ENDS, from_server=True)
    assert names_for(observer.names, ["192.0.2.1", "192.0.2.2", "192.0.2.3"], 4000) == ["api.example.com"] * 2 + [None]
    for _ in range(3):
        query, answer = exchange("missing.example.com", "AAAA", code=3)
        observer.observe(query, 5000, ENDS, from_server=False)
        observer.observe(answer, 5900, ENDS, from_server=True)
    query, _ = exchange("slow.example.com", "A")
    observer.observe(query, 6000, ENDS, from_server=False)
    events = {event.name: event for event in observer.take_events(7000)}
    assert events["api.example.com"].duration_us == 2500
    assert (events["api.example.com"].kind, events["api.example.com"].reason) == ("dns_query", None)
    missing = events["missing.example.com"]
    assert (missing.kind, missing.reason, missing.count, missing.duration_us) == ("dns_failure", "NXDOMAIN", 3, 900)
    assert set(events) == {"api.example.com", "missing.example.com"}
    (timeout,) = observer.take_events(6000 + TIMEOUT_US)
    assert (timeout.name, timeout.reason, timeout.duration_us) == ("slow.example.com", "timeout", None)
    assert observer.take_events(10**12) == []


def test_ipv6_over_tcp() -> None:
    observer = DnsObserver()
    ends = Conversation("fd00::1", 40000, "fd00::53", 53, "tcp")
    query, answer = exchange("six.example.com", "AAAA", *[f"2001:db8::{n:x}" for n in range(1, 200)])
    framed = [len(wire).to_bytes(2, "big") + wire for wire in (query, answer)]
    observer.observe(framed[0], 0, ends, from_server=False)
    for start in range(0, len(framed[1]), 1000):
        observer.observe(framed[1][start : start + 1000], 10, ends, from_server=True)
    assert names_for(observer.names, ["2001:db8::1", "2001:db8::c7"], 20) == ["six.example.com"] * 2
    assert observer.counts.answers == 1


def test_only_the_answer_to_a_question_is_believed() -> None:
    observer = DnsObserver()
    query, answer = exchange("bank.example.com", "A", "192.0.2.66")
    observer.observe(answer, 0, ENDS, from_server=True)  # nobody asked
    observer.observe(query, 1, ENDS, from_server=False)
    wrong_identifier = (int.from_bytes(answer[:2], "big") ^ 1).to_bytes(2, "big") + answer[2:]
    observer.observe(wrong_identifier, 2, ENDS, from_server=True)
    observer.observe(answer, 3, ENDS._replace(server_address="10.6.6.6"), from_server=True)
    _, other = exchange("other.example.com", "A", "192.0.2.66")
    observer.observe(answer[:2] + other[2:], 4, ENDS, from_server=True)
    observer.observe(answer, 5, ENDS, from_server=False)  # an answer from the side that asks
    assert names_for(observer.names, ["192.0.2.66"], 5) == [None]
    assert observer.counts.unmatched == 4
    assert observer.counts.malformed == 1
    observer.observe(answer, 6, ENDS, from_server=True)
    assert names_for(observer.names, ["192.0.2.66"], 7) == ["bank.example.com"]
    observer.observe(answer, 8, ENDS, from_server=True)  # a second time
    assert observer.counts.unmatched == 5


def test_a_question_that_is_sent_again_has_waited_since_the_first() -> None:
    observer = DnsObserver()
    query, answer = exchange("api.example.com", "A", "192.0.2.1")
    observer.observe(query, 0, ENDS, from_server=False)
    observer.observe(query, 2 * SECOND, ENDS, from_server=False)
    observer.observe(answer, 2 * SECOND + 500, ENDS, from_server=True)
    (event,) = observer.take_events(3 * SECOND)
    assert event.duration_us == 2 * SECOND + 500


def test_malformed_payloads_are_counted() -> None:
    observer = DnsObserver()
    for payload in (b"", b"\x00" * 12, b"GET / HTTP/1.1\r\n\r\n"):
        observer.observe(payload, 0, ENDS, from_server=False)
    assert observer.counts.malformed == 3


def test_names_live_as_long_as_their_answer() -> None:
    table = NameTable()
    table.learn("short", "192.0.2.1", 1, 0)
    table.learn("medium", "192.0.2.2", 600, 0)
    table.learn("long", "192.0.2.3", 10**9, 0)
    addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    assert names_for(table, addresses, MINIMUM_SECONDS * SECOND) == ["short", "medium", "long"]
    assert names_for(table, addresses, 61 * SECOND) == [None, "medium", "long"]
    assert names_for(table, addresses, 601 * SECOND) == [None, None, "long"]
    assert names_for(table, addresses, (MAXIMUM_SECONDS + 1) * SECOND) == [None, None, None]
    table.learn("again", "192.0.2.1", 60, 600 * SECOND)
    assert names_for(table, ["192.0.2.1"], 601 * SECOND) == ["again"]


def test_everything_is_bounded() -> None:
    table = NameTable(maximum=100)
    for number in range(1000):
        table.learn(f"n{number}", f"10.0.{number // 256}.{number % 256}", 60, 0)
    assert len(table) == 100
    assert names_for(table, ["10.0.3.231", "10.0.0.1"], 0) == ["n999", None]


def test_no_event_is_lost_when_there_are_too_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM_EVENTS", 10)
    monkeypatch.setattr(module, "MAXIMUM_OUTSTANDING", 20)
    observer = DnsObserver()
    for number in range(50):
        query, answer = exchange(f"n{number}.example.com", "A", code=2)
        observer.observe(query, number, ENDS, from_server=False)
        observer.observe(answer, number + 5, ENDS, from_server=True)
    events = observer.take_events(100)
    assert sum(event.count for event in events) == 50
    assert len(events) == 11 and {event.name for event in events} >= {OTHERS, "n0.example.com"}
    for number in range(50):
        observer.observe(exchange(f"m{number}", "A")[0], 1000, ENDS, from_server=False)
    assert observer.counts.forgotten == 30


def test_who_was_told_to_use_tcp_waits_for_no_other_answer_at_that_socket() -> None:
    observer = DnsObserver()
    query, answer = exchange("big.example.com", "A")
    other, _ = exchange("big.example.com", "AAAA")
    truncated = answer[:2] + bytes([answer[2] | 2]) + answer[3:]
    observer.observe(query, 0, ENDS, from_server=False)
    observer.observe(truncated, 10, ENDS, from_server=True)
    observer.observe(other, 11, ENDS, from_server=False)
    observer.observe(other, 20, ENDS._replace(client_port=40001), from_server=False)
    events = observer.take_events(30 + TIMEOUT_US)
    assert [(event.type, event.reason) for event in events] == [("A", "truncated"), ("AAAA", "timeout")]
    assert observer.counts.forgotten == 1


def test_a_client_that_asks_several_servers_at_once_needs_one_answer() -> None:
    observer = DnsObserver()
    query, answer = exchange("api.example.com", "A", "192.0.2.1")
    refused = answer[:3] + bytes([answer[3] | 5]) + answer[4:6] + b"\0\0" + answer[8:]
    servers = [ENDS._replace(server_address=f"10.0.0.{number}") for number in (53, 54, 55)]
    for server in servers:
        observer.observe(query, 0, server, from_server=False)
    observer.observe(refused, 5, servers[0], from_server=True)
    observer.observe(answer, 9, servers[2], from_server=True)
    events = observer.take_events(TIMEOUT_US)
    assert [(event.kind, event.reason, event.conversation.server_address) for event in events] == [
        ("dns_failure", "REFUSED", "10.0.0.53"),
        ("dns_query", None, "10.0.0.55"),
    ]


def test_a_flow_is_called_what_its_address_was_called_when_it_began() -> None:
    table = NameTable()
    table.learn("a.example", "192.0.2.1", 300, 10 * SECOND, netns=1, pid=7)
    table.learn("b.example", "192.0.2.1", 300, 20 * SECOND, netns=1, pid=8)
    table.learn("c.example", "192.0.2.1", 300, 20 * SECOND, netns=2)

    def called(second: int, netns: int, pid: int) -> str | None:
        return table.name_for("192.0.2.1", second * SECOND, netns, pid)

    assert [called(second, 1, 0) for second in (9, 10, 19, 20, 321)] == [
        None,
        "a.example",
        "a.example",
        "b.example",
        None,
    ]
    assert (called(30, 1, 7), called(30, 1, 8), called(30, 1, 9), called(30, 2, 7)) == (
        "a.example",
        "b.example",
        "b.example",
        "c.example",
    )
    # Who asked itself goes on with its address.
    assert (called(1000, 1, 7), called(1000, 1, 9)) == ("a.example", None)
    assert called(30, 3, 7) is None
