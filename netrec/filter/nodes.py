"""The syntax tree of a filter expression.

Every node knows where in the text it stands (`span`: first character, one past the last; not compared).
Names are resolved when the text is parsed: a tree holds numbers, networks and owners, nothing to look up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

Span = tuple[int, int]
Network = IPv4Network | IPv6Network
# A path below the cgroup mount -> the numbers of that cgroup and of those below it.
CgroupNumbers = Callable[[str], Collection[int]]

# Which side's address or port is meant. A flow's client sent its first packet: `src` is the client, `dst` the server.
Direction = Literal["either", "client", "server", "both"]
OwnerKind = Literal["process", "pid", "uid", "cgroup", "container", "unit"]


@dataclass(frozen=True)
class And:
    """Both are true."""

    left: Expression
    right: Expression
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Or:
    """At least one is true."""

    left: Expression
    right: Expression
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Not:
    """The operand is not true; a value that is unknown makes its term untrue, so its negation true."""

    operand: Expression
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Family:
    """IP version 4 or 6."""

    version: Literal[4, 6]
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Protocol:
    """An IP protocol number, over one IP version or (None) over both."""

    number: int
    version: Literal[4, 6] | None = None
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Address:
    """An address of the direction lies in one of the networks (a host is a network of one address)."""

    networks: tuple[Network, ...]
    direction: Direction = "either"
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Port:
    """A port of the direction lies in `low` to `high`, both included, and the protocol is one of `protocols`."""

    low: int
    high: int
    direction: Direction = "either"
    protocols: tuple[int, ...] = (6, 17, 132)
    span: Span = field(default=(0, 0), compare=False, repr=False)


@dataclass(frozen=True)
class Owner:
    """The process that owns the flow.

    The value of process is the kernel's name for the thread group (at most 15 bytes), of pid and uid the
    number, of cgroup a path below the cgroup mount (`/system.slice`; everything below it too) or the
    number of one cgroup, of container the start of its id, of unit the whole name of a systemd unit.
    """

    kind: OwnerKind
    value: str | int
    span: Span = field(default=(0, 0), compare=False, repr=False)


Term = Family | Protocol | Address | Port | Owner
Expression = And | Or | Not | Term


def terms(expression: Expression) -> Iterator[Term]:
    """The leaves, from left to right."""
    pending: list[Expression] = [expression]
    while pending:
        node = pending.pop()
        if isinstance(node, And | Or):
            pending += [node.right, node.left]
        elif isinstance(node, Not):
            pending.append(node.operand)
        else:
            yield node
