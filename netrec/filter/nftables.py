"""Tree -> nft matches for packets on their way from the client to the server (prerouting, family inet).

nft has no `or` between matches of different fields: a filter becomes several rules, one for each way to be true.
What nft cannot know of a forwarded packet (its process, cgroup, ...) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from netrec.errors import FilterError
from netrec.filter.nodes import Address, And, Direction, Expression, Family, Network, Not, Or, Owner, Port, Protocol

_VERSIONS = frozenset((4, 6))
_PROTOCOLS = frozenset(range(256))


@dataclass(frozen=True)
class Match:
    """The text of one match, and the IP versions and protocols outside of which it is never true."""

    text: str
    versions: frozenset[int] = _VERSIONS
    protocols: frozenset[int] = _PROTOCOLS


# One way to be true: matches that must all hold.
Way = tuple[Match, ...]
MAXIMUM_RULES = 256


def rules(expression: Expression, *, text: str = "") -> list[str]:
    """The match part of each rule; a packet belongs to the filter when it matches at least one (none: never).

    `src` and `client` are the packet's source. Raises `FilterError` for a term about an owner, and for a
    filter that would need more than 256 rules.
    """
    return [" ".join(match.text for match in way) for way in _Translation(text).ways(expression, True)]


class _Translation:
    def __init__(self, text: str) -> None:
        self.text = text

    def ways(self, node: Expression, positive: bool) -> list[Way]:
        """The ways in which the node is true (or, when not `positive`, untrue)."""
        match node:
            case And() | Or():
                left, right = self.ways(node.left, positive), self.ways(node.right, positive)
                return self.all([left, right]) if isinstance(node, And) == positive else self.any([left, right])
            case Not():
                return self.ways(node.operand, not positive)
            case Family():
                return [(_family(node.version, positive),)]
            case Protocol():
                parts: list[list[Way]] = [[(_protocol({node.number}, positive),)]]
                if node.version:
                    parts.append([(_family(node.version, positive),)])
                return self.all(parts) if positive else self.any(parts)
            case Address():
                networks = node.networks
                return self.sides(node.direction, positive, lambda side: self.address(networks, side, positive))
            case Port():
                protocols: list[Way] = [(_protocol(node.protocols, positive),)]
                # Always a range: nft 1.0.6 joins `th sport != 53 th dport != 53` into "not both are 53".
                span = f"{node.low}-{node.high}"
                test = f"!= {span}" if not positive else span if node.high > node.low else str(node.low)

                def port(side: str) -> list[Way]:
                    return [(Match(f"th {'sport' if side == 'client' else 'dport'} {test}"),)]

                if positive:
                    return self.all([protocols, self.sides(node.direction, True, port)])
                # The bytes where ports stand mean something else in other protocols: ask for the protocol first.
                inside: list[Way] = [(_protocol(node.protocols, True),)]
                return self.any([protocols, self.all([inside, self.sides(node.direction, False, port)])])
            case Owner():
                raise FilterError(
                    f"{node.kind} cannot be told of forwarded packets",
                    "the transparent proxy takes host, net, port, portrange and protocols",
                    text=self.text,
                    span=node.span,
                )

    def sides(self, direction: Direction, positive: bool, ways: Callable[[str], list[Way]]) -> list[Way]:
        if direction not in ("either", "both"):
            return ways(direction)
        parts = [ways("client"), ways("server")]
        return self.any(parts) if (direction == "either") == positive else self.all(parts)

    def address(self, networks: tuple[Network, ...], side: str, positive: bool) -> list[Way]:
        parts: list[list[Way]] = []
        for version in sorted({network.version for network in networks}):
            field = f"{'ip' if version == 4 else 'ip6'} {'saddr' if side == 'client' else 'daddr'}"
            own = [network for network in networks if network.version == version]
            if any(network.prefixlen == 0 for network in own):
                parts.append([(_family(version, positive),)])
                continue
            text = ", ".join(sorted(str(network) for network in own))
            text = f"{{ {text} }}" if len(own) > 1 else text
            if positive:
                parts.append([(Match(f"{field} {text}", frozenset((version,))),)])
            else:  # a packet of the other version lies in none of them, but `!=` would not see it
                parts.append([(_family(version, False),), (Match(f"{field} != {text}", frozenset((version,))),)])
        return self.any(parts) if positive else self.all(parts)

    def any(self, parts: Iterable[list[Way]]) -> list[Way]:
        return self.limited(way for part in parts for way in part)

    def all(self, parts: Iterable[list[Way]]) -> list[Way]:
        found: list[Way] = [()]
        for part in parts:
            found = self.limited(
                (*before, *(match for match in way if match not in before))
                for before in found
                for way in part
                if _possible(before, way)
            )
        return found

    def limited(self, ways: Iterable[Way]) -> list[Way]:
        found: dict[Way, None] = {}
        for way in ways:
            found[way] = None
            if len(found) > MAXIMUM_RULES:
                raise FilterError(f"the filter needs more than {MAXIMUM_RULES} nft rules", "write it with fewer ands")
        return list(found)


def _family(version: int, positive: bool) -> Match:
    meant = version if positive else 10 - version
    return Match(f"meta nfproto ipv{meant}", versions=frozenset((meant,)))


def _protocol(numbers: Collection[int], positive: bool) -> Match:
    listed = ", ".join(map(str, sorted(numbers)))
    listed = f"{{ {listed} }}" if len(numbers) > 1 else listed
    given = frozenset(numbers)
    return Match(
        f"meta l4proto {'' if positive else '!= '}{listed}", protocols=given if positive else _PROTOCOLS - given
    )


def _possible(one: Way, other: Way) -> bool:
    """Whether a packet can be of the IP versions and protocols of all matches.

    A rule of which none can is never true; nft 1.0.6 refuses some of them, and some make it crash when it lists them.
    """
    versions, protocols = _VERSIONS, _PROTOCOLS
    for match in one + other:
        versions &= match.versions
        protocols &= match.protocols
    return bool(versions and protocols)
