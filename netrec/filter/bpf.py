"""Tree -> C expression for an eBPF program: no loop, no call, at most a few compares for each term.

The program puts what it knows of a flow into a `struct netrec_filter_flow` (STRUCT is its text; the names of its
members are the contract, the order is not) and tests the expression. What the program does not know yet at the
place where it asks (kinds of owner, a port) it names in `unknown`: the expression then lets pass all flows that might
match, and `exact` says that `evaluate` has to decide on the rest. A cgroup that user space has not looked at yet has
the bit UNDECIDED, with the same effect.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from netrec.errors import FilterError
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
    OwnerKind,
    Port,
    Protocol,
    Span,
    terms,
)

STRUCT = """\
/* What a filter may ask of a flow. Addresses are in network order, as the kernel holds them in memory; those of the
   other IP version are not read. Values that are not known: pid 0, uid 0xffffffff, process_name and cgroup_id 0. */
struct netrec_filter_flow {
    __u64 client_ipv6[2];
    __u64 server_ipv6[2];
    __u64 process_name[2];  /* the 16 bytes of the kernel's comm, padded with zeros */
    __u64 cgroup_id;
    __u32 client_ipv4;
    __u32 server_ipv4;
    __u32 pid;              /* the thread group's id, in the initial pid namespace */
    __u32 uid;
    __u32 cgroup_terms;     /* bit i: the cgroup belongs to term i of CompiledFilter.cgroup_terms; bit 31: not known */
    __u16 client_port;      /* host order */
    __u16 server_port;
    __u8 version;           /* 4 or 6 */
    __u8 protocol;          /* IP protocol number */
};
"""
MAXIMUM_TERMS = 128
MAXIMUM_CGROUP_TERMS = 31
UNDECIDED = 1 << 31
# What a program may not know of a flow where it asks.
Unknown = OwnerKind | Literal["client_port", "server_port"]
OWNER_KINDS: tuple[OwnerKind, ...] = ("process", "pid", "uid", "cgroup", "container", "unit")


@dataclass(frozen=True)
class CompiledFilter:
    """A C expression over `flow`.

    `members` are the members of the struct that it reads (fill only these). `cgroup_terms` are the terms about a
    cgroup's path, container or unit: user space keeps a map from cgroup number to the bits of the terms that it
    belongs to, and the program puts the found bits into the member of that name: UNDECIDED when the map does not have
    the cgroup, 0 when the flow has none. `exact` is False when some term was unknown: rows that pass may still have to
    go.
    """

    expression: str
    members: frozenset[str]
    cgroup_terms: tuple[Owner, ...] = ()
    exact: bool = True

    def function(self, name: str = "netrec_filter_matches") -> str:
        """The expression as a C function of a pointer to the struct, to be put after STRUCT."""
        return (
            f"static inline __attribute__((always_inline)) int {name}(const struct netrec_filter_flow *flow)\n"
            f"{{\n    return {self.expression};\n}}\n"
        )


def compile_filter(
    expression: Expression,
    *,
    text: str = "",
    unknown: Collection[Unknown] = (),
    byte_order: str = sys.byteorder,
) -> CompiledFilter:
    """The C expression of a tree.

    `unknown` are the kinds of owner and the ports that the program cannot tell where it asks; `byte_order` is the
    machine's ("little" or "big"). Raises `FilterError` when there are more terms than the verifier's patience should be
    tried with.
    """
    count = sum(len(term.networks) if isinstance(term, Address) else 1 for term in terms(expression))
    if count > MAXIMUM_TERMS:
        raise FilterError(
            f"the filter has {count} terms, the kernel takes {MAXIMUM_TERMS}", "use fewer, for example nets for hosts"
        )
    compilation = _Compilation(text, frozenset(unknown), byte_order)
    return CompiledFilter(
        expression=compilation.emit(expression, True),
        members=frozenset(compilation.members),
        cgroup_terms=tuple(compilation.cgroup_terms),
        exact=compilation.exact,
    )


@dataclass
class _Compilation:
    text: str
    unknown: frozenset[Unknown]
    byte_order: str
    exact: bool = True
    members: set[str] = field(default_factory=set)
    cgroup_terms: list[Owner] = field(default_factory=list)

    def emit(self, node: Expression, positive: bool) -> str:
        """`positive` is False below an odd number of nots: there an unknown term is taken as untrue."""
        match node:
            case And():
                return f"({self.emit(node.left, positive)} && {self.emit(node.right, positive)})"
            case Or():
                return f"({self.emit(node.left, positive)} || {self.emit(node.right, positive)})"
            case Not():
                return f"!({self.emit(node.operand, not positive)})"
            case Family():
                return f"{self.member('version')} == {node.version}"
            case Protocol():
                test = f"{self.member('protocol')} == {node.number}"
                return f"({test} && {self.member('version')} == {node.version})" if node.version else test
            case Address():
                networks = node.networks
                tests = self.sides(node.direction, lambda side: self.any(networks, side))
                return tests
            case Port():
                protocol = self.member("protocol")
                protocols = " || ".join(f"{protocol} == {number}" for number in node.protocols)
                low, high = node.low, node.high
                ports = self.sides(node.direction, lambda side: self.port(side, low, high, positive))
                return f"(({protocols}) && {ports})"
            case Owner():
                return self.owner(node, positive)

    def member(self, name: str) -> str:
        self.members.add(name)
        return f"flow->{name}"

    def sides(self, direction: Direction, test: Callable[[str], str]) -> str:
        match direction:
            case "either":
                return f"({test('client')} || {test('server')})"
            case "both":
                return f"({test('client')} && {test('server')})"
            case side:
                return test(side)

    def port(self, side: str, low: int, high: int, positive: bool) -> str:
        if f"{side}_port" in self.unknown:
            return self.undecided(positive)
        port = self.member(f"{side}_port")
        return f"{port} == {low}" if low == high else f"({port} >= {low} && {port} <= {high})"

    def any(self, networks: tuple[Network, ...], side: str) -> str:
        return f"({' || '.join(self.network(network, side) for network in networks)})"

    def network(self, network: Network, side: str) -> str:
        tests = [f"{self.member('version')} == {network.version}"]
        address, mask = network.network_address.packed, network.netmask.packed
        if network.version == 4:
            tests += self.masked(self.member(f"{side}_ipv4"), address, mask, "u")
        else:
            name = self.member(f"{side}_ipv6")
            for word in (0, 1):
                part = slice(8 * word, 8 * word + 8)
                tests += self.masked(f"{name}[{word}]", address[part], mask[part], "ull")
        return f"({' && '.join(tests)})"

    def masked(self, name: str, address: bytes, mask: bytes, suffix: str) -> list[str]:
        """Compares of a word in network order, with constants as this machine reads those bytes."""
        value, bits = (self.word(part) for part in (address, mask))
        if not bits:
            return []
        read = name if all(byte == 0xFF for byte in mask) else f"({name} & {bits:#x}{suffix})"
        return [f"{read} == {value:#x}{suffix}"]

    def word(self, content: bytes) -> int:
        return int.from_bytes(content, "little" if self.byte_order == "little" else "big")

    def owner(self, node: Owner, positive: bool) -> str:
        # Bytes that are no UTF-8 are escaped in the rows.
        if node.kind in self.unknown or (node.kind == "process" and "\\" in str(node.value)):
            return self.undecided(positive)
        match node.kind, node.value:
            case "process", str(value):
                name = self.member("process_name")
                padded = value.encode().ljust(16, b"\0")
                low, high = self.word(padded[:8]), self.word(padded[8:])
                return f"({name}[0] == {low:#x}ull && {name}[1] == {high:#x}ull)"
            case ("container" | "unit", _) | ("cgroup", str()):
                return self.cgroup(node, positive)
            case "cgroup", value:
                return f"{self.member('cgroup_id')} == {value}ull"
            case kind, value:
                return f"{self.member(kind)} == {value}u"

    def undecided(self, positive: bool) -> str:
        self.exact = False
        return "1" if positive else "0"

    def cgroup(self, node: Owner, positive: bool) -> str:
        if node not in self.cgroup_terms:
            if len(self.cgroup_terms) == MAXIMUM_CGROUP_TERMS:
                self.refuse(node.span)
            self.cgroup_terms.append(node)
        bits = 1 << self.cgroup_terms.index(node) | (UNDECIDED if positive else 0)
        return f"({self.member('cgroup_terms')} & {bits:#x}u)"

    def refuse(self, span: Span) -> None:
        message = f"the kernel takes {MAXIMUM_CGROUP_TERMS} different cgroups, containers and units in one filter"
        raise FilterError(message, "name a slice or a cgroup that holds them", text=self.text, span=span)
