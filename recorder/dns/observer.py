"""Queries matched with their answers: names for flows, latency and failures for events."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from recorder.dns.framing import TcpFraming
from recorder.dns.message import DnsFormatError, DnsMessage, parse
from recorder.dns.names import NameTable

MAXIMUM_OUTSTANDING = 16_384
MAXIMUM_EVENTS = 8_192
# Resolvers give up on a server after this time, as resolv.conf(5) has it.
TIMEOUT_US = 5_000_000
OTHERS = "(others)"


class Conversation(NamedTuple):
    """The two ends of a DNS exchange; the server is where queries go."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int
    transport: Literal["udp", "tcp"]


@dataclass(frozen=True)
class DnsEvent:
    """Equal outcomes of equal questions since the events were last taken.

    `kind` is dns_query (answered; also when the answer is empty) or dns_failure, whose `reason` is the answer's
    code by name (NXDOMAIN, SERVFAIL, ...) or `timeout`. `duration_us` is the slowest of them; None for a timeout.
    `time_us` is the last. The client's port is that of the last one.
    """

    time_us: int
    kind: Literal["dns_query", "dns_failure"]
    name: str
    type: str
    reason: str | None
    count: int
    duration_us: int | None
    conversation: Conversation


@dataclass
class DnsCounts:
    """What was seen, since the start."""

    queries: int = 0
    answers: int = 0
    malformed: int = 0
    unmatched: int = 0
    timeouts: int = 0
    forgotten: int = 0


_Key = tuple[Conversation, int, str, str]
# What makes two events equal, and of those: the last time, how many, the slowest, the last conversation.
_Group = tuple[Literal["dns_query", "dns_failure"], str, str, str | None, str, str]
_Counted = tuple[int, int, int | None, Conversation]


@dataclass
class DnsObserver:
    """Feed it every DNS payload that a host sends or receives.

    Only the answer to a question that was seen is believed, from where it was sent to, with its identifier, name and
    type; only records that the question's name leads to are. All that is kept is bounded.
    """

    names: NameTable = field(default_factory=NameTable)
    counts: DnsCounts = field(default_factory=DnsCounts)
    _outstanding: OrderedDict[_Key, int] = field(default_factory=OrderedDict)
    _events: dict[_Group, _Counted] = field(default_factory=dict)
    _framing: TcpFraming = field(default_factory=TcpFraming)

    def observe(
        self,
        payload: bytes,
        time_us: int,
        conversation: Conversation,
        *,
        from_server: bool,
        sequence: int | None = None,
        opens: bool = False,
        closes: bool = False,
    ) -> None:
        """One UDP datagram's payload or one TCP segment's, in either direction; never raises.

        `conversation.client_*` is the side that asks, whatever the direction of this packet; `from_server` tells that.
        `time_us` is microseconds of any one clock that does not go back. The others are about TCP segments
        (`recorder.dns.packet.dissect` gives them): a sequence number, and whether the connection opens or closes.
        """
        messages = [payload]
        if conversation.transport == "tcp":
            direction = (conversation, from_server)
            if opens:
                self._framing.forget(direction)
            messages = self._framing.feed(direction, payload, sequence)
            if closes:
                self._framing.forget(direction)
        for content in messages:
            try:
                message = parse(content)
            except DnsFormatError:
                self.counts.malformed += 1
                continue
            if message.is_answer != from_server:
                self.counts.malformed += 1
            elif from_server:
                self._answer(message, time_us, conversation)
            else:
                self._query(message, time_us, conversation)

    def names_for(self, addresses: Iterable[str], time_us: int) -> list[str | None]:
        """The name of each address as it was last asked for; None where none is known."""
        return self.names.names_for(addresses, time_us)

    def take_events(self, time_us: int) -> list[DnsEvent]:
        """The events since the last call; questions without an answer for five seconds are failures by now."""
        while self._outstanding:
            key, asked_us = next(iter(self._outstanding.items()))
            if time_us - asked_us < TIMEOUT_US:
                break
            self._time_out(key, time_us)
        groups, self._events = self._events, {}
        return [
            DnsEvent(time, kind, name, type_, reason, count, slowest, ends)
            for (kind, name, type_, reason, _, _), (time, count, slowest, ends) in groups.items()
        ]

    def _query(self, message: DnsMessage, time_us: int, conversation: Conversation) -> None:
        self.counts.queries += 1
        # Sent again: the client has been waiting since the first time.
        self._outstanding.setdefault(_key(message, conversation), time_us)
        if len(self._outstanding) > MAXIMUM_OUTSTANDING:
            self._outstanding.popitem(last=False)
            self.counts.forgotten += 1

    def _answer(self, message: DnsMessage, time_us: int, conversation: Conversation) -> None:
        asked_us = self._outstanding.pop(_key(message, conversation), None)
        if asked_us is None:
            self.counts.unmatched += 1
            return
        self.counts.answers += 1
        duration = max(0, time_us - asked_us)
        if message.code == "NOERROR":
            reason = "truncated" if message.truncated else None
            self._add("dns_query", message.name, message.type, reason, time_us, duration, conversation)
            for address, ttl in message.addresses:
                self.names.learn(message.name, address, ttl, time_us)
        else:
            self._add("dns_failure", message.name, message.type, message.code, time_us, duration, conversation)

    def _time_out(self, key: _Key, time_us: int) -> None:
        del self._outstanding[key]
        self.counts.timeouts += 1
        conversation, _, name, kind = key
        self._add("dns_failure", name, kind, "timeout", time_us, None, conversation)

    def _add(
        self,
        kind: Literal["dns_query", "dns_failure"],
        name: str,
        type_: str,
        reason: str | None,
        time_us: int,
        duration_us: int | None,
        ends: Conversation,
    ) -> None:
        group: _Group = (kind, name, type_, reason, ends.client_address, ends.server_address)
        before = self._events.get(group)
        if before is None and len(self._events) >= MAXIMUM_EVENTS:
            # Never lost: counted under one name.
            group = (kind, OTHERS, "", reason, "", "")
            before = self._events.get(group)
        count, slowest = (before[1], before[2]) if before else (0, None)
        if slowest is None or (duration_us is not None and duration_us > slowest):
            slowest = duration_us
        self._events[group] = (time_us, count + 1, slowest, ends)


def _key(message: DnsMessage, conversation: Conversation) -> _Key:
    return conversation, message.identifier, message.name, message.type
