"""Queries matched with their answers: names for flows, latency and failures for events."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from recorder.dns.framing import TcpFraming
from recorder.dns.message import DnsFormatError, DnsMessage, parse
from recorder.dns.names import NameTable

MAXIMUM_OUTSTANDING = 16_384
MAXIMUM_EVENTS = 8_192
MAXIMUM_SERVERS = 8
MAXIMUM_MOVED = 1_024
# Resolvers give up on a server after this time, as resolv.conf(5) has it.
TIMEOUT_US = 5_000_000
# Two questions are sent one after the other; the answer to the first may come in between.
_MOVING_US = 1_000_000
OTHERS = "(others)"


class Conversation(NamedTuple):
    """The two ends of a DNS exchange; the server is where queries go. `netns` is the network namespace's inode."""

    client_address: str
    client_port: int
    server_address: str
    server_port: int
    transport: Literal["udp", "tcp"]
    netns: int = 0


class Asker(NamedTuple):
    """The process that asks; `source` is how it is known, by number. All zero: not known."""

    pid: int = 0
    uid: int = 0
    cgroup: int = 0
    command: bytes = b""
    source: int = 0


@dataclass(frozen=True)
class DnsEvent:
    """Equal outcomes of a process's equal questions since the events were last taken.

    `kind` is dns_query (answered; also when the answer is empty) or dns_failure, whose `reason` is the answer's
    code by name (NXDOMAIN, SERVFAIL, ...) or `timeout`. `duration_us` is the slowest of them, the others took more
    than half as long; None for a timeout. `time_us` is the last. The client's port is that of the last one.
    """

    time_us: int
    kind: Literal["dns_query", "dns_failure"]
    name: str
    type: str
    reason: str | None
    count: int
    duration_us: int | None
    conversation: Conversation
    asker: Asker


_NOBODY = Asker()


@dataclass
class DnsCounts:
    """What was seen, since the start."""

    queries: int = 0
    answers: int = 0
    malformed: int = 0
    unmatched: int = 0
    timeouts: int = 0
    forgotten: int = 0


class _Question(NamedTuple):
    """What an answer must repeat. A client may ask several servers at once, from one port."""

    netns: int
    client_address: str
    client_port: int
    transport: str
    identifier: int
    name: str
    type: str


class _Asked(NamedTuple):
    time_us: int
    conversation: Conversation
    asker: Asker


class _Outcome(NamedTuple):
    """What makes two events equal; `scale` is the power of two above the duration."""

    kind: Literal["dns_query", "dns_failure"]
    name: str
    type: str
    reason: str | None
    scale: int
    client_address: str
    server_address: str
    netns: int
    pid: int


@dataclass
class DnsObserver:
    """Feed it every DNS payload that the clients on a host send or receive.

    Only the answer to a question that was seen is believed, from where it was sent to, with its identifier, name and
    type; only records that the question's name leads to are. All that is kept is bounded.
    """

    names: NameTable = field(default_factory=NameTable)
    counts: DnsCounts = field(default_factory=DnsCounts)
    _outstanding: OrderedDict[_Question, dict[tuple[str, int], _Asked]] = field(default_factory=OrderedDict)
    _events: dict[_Outcome, DnsEvent] = field(default_factory=dict)
    _framing: TcpFraming = field(default_factory=TcpFraming)
    # Sockets that were told to ask over TCP instead: whatever else they asked, they wait for no longer.
    _moved: OrderedDict[tuple[int, str, int], int] = field(default_factory=OrderedDict)

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
        asker: Asker = _NOBODY,
    ) -> None:
        """One UDP datagram's payload or one TCP segment's, in either direction; never raises.

        `conversation.client_*` is the side that asks, whatever the direction of this packet; `from_server` tells that.
        `time_us` is microseconds of any one clock that does not go back. `asker` counts with queries. The others are
        about TCP segments (`recorder.dns.packet.dissect` gives them): a sequence number, and whether the connection
        opens or closes.
        """
        messages = [payload]
        if conversation.transport == "tcp":
            direction = (conversation, from_server)
            if opens:
                self._framing.forget(direction)
            messages = self._framing.feed(direction, payload, sequence)
            if closes and not self._framing.lost(direction):
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
                self._query(message, time_us, conversation, asker)

    def take_events(self, time_us: int) -> list[DnsEvent]:
        """The events since the last call; questions without an answer for five seconds are failures by now."""
        while self._outstanding:
            question, servers = next(iter(self._outstanding.items()))
            if time_us - next(iter(servers.values())).time_us < TIMEOUT_US:
                break
            del self._outstanding[question]
            for asked in servers.values():
                self._time_out(question, asked, time_us)
        events, self._events = self._events, {}
        return list(events.values())

    def _query(self, message: DnsMessage, time_us: int, conversation: Conversation, asker: Asker) -> None:
        self.counts.queries += 1
        server = (conversation.server_address, conversation.server_port)
        servers = self._outstanding.setdefault(_question(message, conversation), {})
        # Sent again: the client has been waiting since the first time.
        if server not in servers and len(servers) < MAXIMUM_SERVERS:
            servers[server] = _Asked(time_us, conversation, asker)
        if len(self._outstanding) > MAXIMUM_OUTSTANDING:
            self._outstanding.popitem(last=False)
            self.counts.forgotten += 1

    def _answer(self, message: DnsMessage, time_us: int, conversation: Conversation) -> None:
        question = _question(message, conversation)
        servers = self._outstanding.get(question, {})
        asked = servers.pop((conversation.server_address, conversation.server_port), None)
        if asked is None:
            self.counts.unmatched += 1
            return
        # Who has an answer waits for no other server's; who was told of trouble still does.
        if not servers or message.code in ("NOERROR", "NXDOMAIN"):
            del self._outstanding[question]
        self.counts.answers += 1
        duration = max(0, time_us - asked.time_us)
        if message.code == "NOERROR":
            reason = "truncated" if message.truncated else None
            if message.truncated:
                self._moved[question[:3]] = time_us
                if len(self._moved) > MAXIMUM_MOVED:
                    self._moved.popitem(last=False)
            self._add("dns_query", question, reason, time_us, duration, asked)
            for address, ttl in message.addresses:
                self.names.learn(message.name, address, ttl, time_us, conversation.netns, asked.asker.pid)
        else:
            self._add("dns_failure", question, message.code, time_us, duration, asked)

    def _time_out(self, question: _Question, asked: _Asked, time_us: int) -> None:
        moved = question.transport == "udp" and asked.time_us <= self._moved.get(question[:3], -_MOVING_US) + _MOVING_US
        # The answer may have come to a socket that is closed, or in a segment that was not seen.
        if moved or self._framing.lost((asked.conversation, True)):
            self.counts.forgotten += 1
            return
        self.counts.timeouts += 1
        self._add("dns_failure", question, "timeout", time_us, None, asked)

    def _add(
        self,
        kind: Literal["dns_query", "dns_failure"],
        question: _Question,
        reason: str | None,
        time_us: int,
        duration_us: int | None,
        asked: _Asked,
    ) -> None:
        ends, asker = asked.conversation, asked.asker
        scale = -1 if duration_us is None else duration_us.bit_length()
        outcome = _Outcome(
            kind,
            question.name,
            question.type,
            reason,
            scale,
            ends.client_address,
            ends.server_address,
            ends.netns,
            asker.pid,
        )
        before = self._events.get(outcome)
        if before is None and len(self._events) >= MAXIMUM_EVENTS:
            # Never lost: counted under one name.
            outcome = _Outcome(kind, OTHERS, "", reason, scale, "", "", 0, 0)
            before = self._events.get(outcome)
        count, slowest = (before.count, before.duration_us) if before else (0, None)
        if slowest is None or (duration_us is not None and duration_us > slowest):
            slowest = duration_us
        self._events[outcome] = DnsEvent(
            time_us, kind, outcome.name, outcome.type, reason, count + 1, slowest, ends, asker
        )


def _question(message: DnsMessage, ends: Conversation) -> _Question:
    return _Question(
        ends.netns,
        ends.client_address,
        ends.client_port,
        ends.transport,
        message.identifier,
        message.name,
        message.type,
    )
