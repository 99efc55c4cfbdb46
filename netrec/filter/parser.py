"""A filter's text -> its syntax tree.

The language is tcpdump's own for hosts, nets, ports and protocols, as pcap-filter(7) describes it: `and` and `or`
have the same precedence and associate to the left, `not` binds tightest, and a value without a qualifier takes
the last one written (`port 80 or 443`, `src net 10 or 11`, `not host a and b`). netrec adds the owners (process, pid,
uid, user, cgroup, container, unit) and `client` and `server`, which mean what `src` and `dst` mean for a flow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from netrec.filter import values
from netrec.filter.nodes import (
    Address,
    And,
    Direction,
    Expression,
    Family,
    Network,
    Not,
    Or,
    Owner,
    Port,
    Protocol,
    Span,
)
from netrec.filter.tokens import Token, fail, tokenize
from netrec.protocols import WITH_PORTS

# name -> (number, IP version that it goes with)
_PROTOCOLS: dict[str, tuple[int, Literal[4, 6] | None]] = {
    "tcp": (6, None),
    "udp": (17, None),
    "sctp": (132, None),
    "icmp": (1, 4),
    "icmp6": (58, 6),
    "igmp": (2, 4),
    "ah": (51, None),
    "esp": (50, None),
    "pim": (103, None),
    "vrrp": (112, 4),
}
_FAMILIES: dict[str, Literal[4, 6]] = {"ip": 4, "ip6": 6}
_SIDES: dict[str, Literal["client", "server"]] = {
    "src": "client",
    "client": "client",
    "dst": "server",
    "server": "server",
}
_TYPES = ("host", "net", "port", "portrange", "proto")
_OWNERS = ("process", "pid", "uid", "user", "cgroup", "container", "unit")
_UNSUPPORTED = frozenset(
    """
    ether arp rarp decnet lat moprc mopdl link ppp slip fddi tr wlan vlan mpls pppoed pppoes geneve vxlan
    less greater gateway broadcast multicast inbound outbound ifname on rnr rulenum reason rset ruleset srnr
    subrulenum action type subtype iso clnp esis isis l1 l2 iih lsp snp csnp psnp vpi vci lane llc protochain
    len atalk aarp ipx stp netbeui host_type carp igrp hip
    """.split()  # noqa: SIM905
)
KEYWORDS = frozenset({*_PROTOCOLS, *_FAMILIES, *_SIDES, *_TYPES, *_OWNERS, *_UNSUPPORTED, "and", "or", "not", "mask"})
_VALUES = {
    "host": "an address or a host's name",
    "net": "a network",
    "port": "a port",
    "portrange": "a range of ports",
    "proto": "an IP protocol",
    "process": "the name of a process",
    "pid": "a process id",
    "uid": "a user id",
    "user": "a user's name",
    "cgroup": "a cgroup's path",
    "container": "a container's id",
    "unit": "the name of a systemd unit",
}
MAXIMUM_LENGTH = 10_000
MAXIMUM_DEPTH = 100

_TERM = "host, net, port, portrange, src, dst, client, server, a protocol (tcp, udp, icmp, icmp6, ip, ip6), process, "
_EXPECTED = _TERM + "pid, uid, user, cgroup, container or unit"


@dataclass(frozen=True)
class _Qualifiers:
    """What stands before a value: how to read it."""

    type: str
    protocol: str | None = None
    direction: Direction = "either"


def parse(text: str) -> Expression:
    """The tree of a filter expression; raises `FilterError` that points at what is wrong and says what was expected."""
    if len(text) > MAXIMUM_LENGTH:
        fail("", (0, 0), f"the filter has {len(text)} characters, more than {MAXIMUM_LENGTH}", "split it up")
    if not text.strip():
        fail("", (0, 0), "the filter is empty", "leave it out to keep everything, or write for example 'port 443'")
    return _Parser(text).whole()


class _Parser:
    """Recursive descent over the words; `qualifiers` are those that a value without any takes."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokenize(text)
        self.position = 0
        self.depth = 0
        self.qualifiers: _Qualifiers | None = None
        self.values_only = ""

    @property
    def next(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.next
        self.position += token.kind != "end"
        return token

    def accept(self, *words: str) -> Token | None:
        return self.take() if self.next.kind in ("word", "symbol") and self.next.text in words else None

    def whole(self) -> Expression:
        tree = self.expression()
        if self.next.kind != "end":
            if self.next.text == ")":
                fail(self.text, self.next.span, "this closing parenthesis has no opening one")
            self.unexpected("expected and, or, or the end")
        return tree

    def unexpected(self, expected: str, hint: str = "") -> NoReturn:
        found = "but the filter ends here" if self.next.kind == "end" else f"not {self.next.text!r}"
        if self.next.kind == "word" and self.next.text in _UNSUPPORTED:
            fail(
                self.text,
                self.next.span,
                f"{self.next.text!r} is about packets or links, which a flow does not have",
                "filter by host, net, port, portrange, protocol or owner",
            )
        fail(self.text, self.next.span, f"{expected}, {found}", hint)

    def expression(self) -> Expression:
        tree = self.negation()
        while token := self.accept("and", "or"):
            right = self.negation()
            kind = And if token.text == "and" else Or
            tree = kind(tree, right, (tree.span[0], right.span[1]))
        return tree

    def negation(self) -> Expression:
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            fail(self.text, self.next.span, f"nested deeper than {MAXIMUM_DEPTH}", "write it flatter")
        if token := self.accept("not"):
            operand = self.negation()
            tree: Expression = Not(operand, (token.span[0], operand.span[1]))
        elif token := self.accept("("):
            inner = self.expression()
            closing = self.next
            if not self.accept(")"):
                self.unexpected("expected and, or, or a closing parenthesis")
            tree = replace(inner, span=(token.span[0], closing.span[1]))
        else:
            tree = self.term()
        self.depth -= 1
        return tree

    def term(self) -> Expression:
        token = self.next
        if token.kind == "literal" or (token.kind == "word" and token.text not in KEYWORDS):
            if self.qualifiers is None:
                guess = "port" if token.text.isdigit() else "host" if re.search(r"[.:]", token.text) else "process"
                self.unexpected("expected a qualifier such as host, port or process", f"write {guess} {token.text}")
            return self.value()
        if self.values_only:
            self.unexpected(f"expected a value of {self.values_only}")
        if token.kind != "word" or token.text in ("and", "or", "mask") or token.text in _UNSUPPORTED:
            self.unexpected(f"expected {_EXPECTED}")
        start = token.span
        if kind := self.accept(*_OWNERS):
            self.qualifiers = _Qualifiers(kind.text)
            return self.operand(start)
        protocol = self.accept(*_PROTOCOLS, *_FAMILIES)
        direction = self.direction()
        kind = self.accept(*_TYPES)
        if protocol and not kind and direction == "either":
            self.qualifiers = None
            return self.bare(protocol)
        if not protocol and not kind and direction == "either":
            self.unexpected(f"expected {_EXPECTED}")
        type_ = kind.text if kind else "host"
        self.check(type_, protocol, direction, kind or protocol or token)
        self.qualifiers = _Qualifiers(type_, protocol.text if protocol else None, direction)
        return self.operand(start)

    def bare(self, token: Token) -> Expression:
        if token.text in _FAMILIES:
            return Family(_FAMILIES[token.text], token.span)
        number, version = _PROTOCOLS[token.text]
        return Protocol(number, version, token.span)

    def direction(self) -> Direction:
        first = self.accept(*_SIDES)
        if not first:
            return "either"
        side = _SIDES[first.text]
        joint = self.next
        following = self.tokens[min(self.position + 1, len(self.tokens) - 1)]
        if joint.text in ("and", "or") and following.kind == "word" and following.text in _SIDES:
            after = self.tokens[min(self.position + 2, len(self.tokens) - 1)]
            # `src or dst port 80`: two sides and one type; the first side has no value of its own.
            self.take()
            self.take()
            if _SIDES[following.text] == side:
                fail(self.text, following.span, f"{following.text} is the same side as {first.text}", "write it once")
            if after.kind == "end":
                self.unexpected("expected host, net, port, portrange or an address")
            return "either" if joint.text == "or" else "both"
        return side

    def check(self, type_: str, protocol: Token | None, direction: Direction, place: Token) -> None:
        if type_ == "proto" and direction != "either":
            fail(self.text, place.span, "a protocol has no direction", "leave out src, dst, client or server")
        if protocol is None:
            return
        if type_ in ("port", "portrange"):
            if protocol.text not in values.PORT_PROTOCOLS:
                names = " or ".join(values.PORT_PROTOCOLS)
                hint = f"write '{protocol.text} and {type_} ...'"
                fail(self.text, protocol.span, f"{type_} goes with {names}, not with {protocol.text}", hint)
        elif protocol.text not in _FAMILIES:
            hint = f"write '{protocol.text} and {type_} ...'"
            fail(self.text, protocol.span, f"{type_} goes with ip or ip6, not with {protocol.text}", hint)

    def operand(self, start: Span) -> Expression:
        """What follows the qualifiers: a value, `not` a value, or values in parentheses."""
        assert self.qualifiers is not None
        if (self.next.kind, self.next.text) in (("symbol", "("), ("word", "not")):
            self.values_only = self.qualifiers.type
            tree = self.negation()
            self.values_only = ""
        else:
            tree = self.value(after_qualifier=True)
        return replace(tree, span=(start[0], tree.span[1]))

    def value(self, *, after_qualifier: bool = False) -> Expression:
        qualifiers = self.qualifiers
        assert qualifiers is not None
        token = self.next
        is_owner = qualifiers.type in _OWNERS
        free = after_qualifier and (is_owner or qualifiers.type == "proto") and token.text not in ("and", "or")
        if token.kind not in ("word", "literal") or (token.kind == "word" and token.text in KEYWORDS and not free):
            self.unexpected(f"expected {_VALUES[qualifiers.type]}")
        self.take()
        try:
            return self.leaf(qualifiers, token)
        except ValueError as problem:
            fail(self.text, token.span, str(problem))

    def leaf(self, qualifiers: _Qualifiers, token: Token) -> Expression:
        protocol, direction, span = qualifiers.protocol, qualifiers.direction, token.span
        version = _FAMILIES.get(protocol or "")
        match qualifiers.type:
            case "host":
                return Address(values.host(token.text, version), direction, span)
            case "net":
                mask = None
                if self.accept("mask"):
                    if self.next.kind != "word" or self.next.text in KEYWORDS:
                        self.unexpected("expected a mask such as 255.0.0.0")
                    mask, span = self.next.text, (span[0], self.next.span[1])
                    self.take()
                networks: tuple[Network, ...] = (values.network(token.text, mask, version),)
                return Address(networks, direction, span)
            case "port" | "portrange":
                protocols = (values.PORT_PROTOCOLS[protocol],) if protocol else WITH_PORTS
                if qualifiers.type == "port":
                    low = high = values.port(token.text, protocols)
                else:
                    low, high = values.port_range(token.text, protocols)
                return Port(low, high, direction, protocols, span)
            case "proto":
                return Protocol(values.protocol(token.text), version, span)
            case kind:
                owner, value = values.owner(kind, token.text)
                return Owner(owner, value, span)
