"""Tree -> nft matches for packets on their way from the client to the server (prerouting, family inet).

nft has no `or` between matches of different fields: a filter becomes several rules, one for each way to be true.
What nft cannot know of a forwarded packet (its process, cgroup, ...) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from netrec.errors import FilterError
from netrec.filter.nodes import Address, And, Direction, Expression, Family, Network, Not, Or, Owner, Port, Protocol


@dataclass(frozen=True)
class Match:
    """The text of one match, and the IP version outside of which it is never true (None: any)."""

    text: str
    version: int | None = None


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
                parts: list[list[Way]] = [[(Match(f"meta l4proto {'' if positive else '!= '}{node.number}"),)]]
                if node.version:
                    parts.append([(_family(node.version, positive),)])
                return self.all(parts) if positive else self.any(parts)
            case Address():
                networks = node.networks
                return self.sides(node.direction, positive, lambda side: self.address(networks, side, positive))
            case Port():
                numbers = ", ".join(map(str, node.protocols))
                protocols: list[Way] = [(Match(f"meta l4proto {'' if positive else '!= '}{{ {numbers} }}"),)]
                span = str(node.low) if node.low == node.high else f"{node.low}-{node.high}"
                # Always a range: nft 1.0.6 joins `th sport != 53 th dport != 53` into "not both are 53".
                test = span if positive else f"!= {node.low}-{node.high}"

                def port(side: str) -> list[Way]:
                    return [(Match(f"th {'sport' if side == 'client' else 'dport'} {test}"),)]

                if positive:
                    return self.all([protocols, self.sides(node.direction, True, port)])
                # The bytes where ports stand mean something else in other protocols: ask for the protocol first.
                inside: list[Way] = [(Match(f"meta l4proto {{ {numbers} }}"),)]
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
                parts.append([(Match(f"{field} {text}", version),)])
            else:  # a packet of the other version lies in none of them, but `!=` would not see it
                parts.append([(_family(version, False),), (Match(f"{field} != {text}", version),)])
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
    return Match(f"meta nfproto ipv{meant}", meant)


def _possible(one: Way, other: Way) -> bool:
    """Whether no packet has to be of both IP versions: nft refuses such a rule, and it would never match."""
    return len({match.version for match in one + other if match.version}) < 2
