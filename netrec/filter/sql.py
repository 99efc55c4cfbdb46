"""Tree -> SQL condition over the fields of the flows table.

The text stands alone (no macros, no extension, no `inet` type) and is standard but for TRY_CAST, split_part and
regexp_replace, which DuckDB, Spark and others have alike. It is two-valued where it matters: an unknown value (null)
makes its term untrue, also below NOT.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network

from netrec.errors import FilterError
from netrec.filter.nodes import (
    Address,
    And,
    CgroupNumbers,
    Direction,
    Expression,
    Family,
    Network,
    Not,
    Or,
    Owner,
    Port,
    Protocol,
)
from netrec.filter.parser import parse
from netrec.protocols import transport_name


def to_sql(text: str, *, cgroup_numbers: CgroupNumbers | None = None) -> str:
    """The SQL condition that means the same as a filter's text; raises `FilterError` when the text is none.

    A trace knows cgroups by number only: `cgroup /path` needs `cgroup_numbers` and is refused without it.
    """
    return condition(parse(text), text=text, cgroup_numbers=cgroup_numbers)


def condition(expression: Expression, *, text: str = "", cgroup_numbers: CgroupNumbers | None = None) -> str:
    """The SQL condition of a tree, in parentheses where it needs them; `text` is for the message of an error."""
    match expression:
        case And() | Or():
            word = "AND" if isinstance(expression, And) else "OR"
            sides = (
                condition(side, text=text, cgroup_numbers=cgroup_numbers)
                for side in (expression.left, expression.right)
            )
            return f"({f' {word} '.join(sides)})"
        case Not():
            # Null stands for untrue in a WHERE and under AND and OR; under NOT it has to be said.
            inner = condition(expression.operand, text=text, cgroup_numbers=cgroup_numbers)
            return f"(NOT coalesce({inner}, FALSE))"
        case Family():
            return f"network_type = 'ipv{expression.version}'"
        case Protocol():
            name = f"transport = {quoted(transport_name(expression.number))}"
            return f"({name} AND network_type = 'ipv{expression.version}')" if expression.version else name
        case Address():
            networks = expression.networks
            return _sides(expression.direction, lambda side: _any(networks, f"{side}_address"))
        case Port():
            names = ", ".join(quoted(transport_name(number)) for number in expression.protocols)
            low, high = expression.low, expression.high
            test = f"= {low}" if low == high else f"BETWEEN {low} AND {high}"
            return f"(transport IN ({names}) AND {_sides(expression.direction, lambda side: f'{side}_port {test}')})"
        case Owner():
            return _owner(expression, text, cgroup_numbers)


def quoted(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _sides(direction: Direction, test: Callable[[str], str]) -> str:
    match direction:
        case "either":
            return f"({test('client')} OR {test('server')})"
        case "both":
            return f"({test('client')} AND {test('server')})"
        case side:
            return test(side)


def _any(networks: tuple[Network, ...], column: str) -> str:
    tests = [address_in(column, network) for network in networks]
    return tests[0] if len(tests) == 1 else f"({' OR '.join(tests)})"


def address_in(column: str, network: Network) -> str:
    """The condition that the address in a column of canonical text lies in a network."""
    if network.prefixlen == network.max_prefixlen:
        # Two canonical forms are in use of an IPv6 address that ends in an IPv4 one: ::ffff:102:304, ::ffff:1.2.3.4.
        family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        forms = {str(network.network_address), socket.inet_ntop(family, network.network_address.packed)}
        return f"{column} = '{forms.pop()}'" if len(forms) == 1 else f"{column} IN {tuple(sorted(forms))}"
    if isinstance(network, IPv4Network):
        return _in_ipv4(column, network)
    return _in_ipv6(column, network)


def _in_ipv4(column: str, network: IPv4Network) -> str:
    """Whole octets are a prefix of the text; what remains of the mask is a range of the next octet."""
    octets = str(network.network_address).split(".")
    whole, bits = divmod(network.prefixlen, 8)
    tests = [f"{column} LIKE '%.%'"] if not whole else [f"{column} LIKE '{'.'.join(octets[:whole])}.%'"]
    if not whole:
        tests.append(f"{column} NOT LIKE '%:%'")
    if bits:
        low = int(octets[whole])
        high = low + (1 << (8 - bits)) - 1
        tests.append(f"TRY_CAST(split_part({column}, '.', {whole + 1}) AS INTEGER) BETWEEN {low} AND {high}")
    return f"({' AND '.join(tests)})"


def _in_ipv6(column: str, network: IPv6Network) -> str:
    """Whole groups are a prefix of the text, as for IPv4, unless one is zero: then `::` may stand for it."""
    is_ipv6 = f"{column} LIKE '%:%'"
    if network.prefixlen == 0:
        return is_ipv6
    low, high = (address.exploded.split(":") for address in (network[0], network[-1]))
    whole, bits = divmod(network.prefixlen, 16)
    if any(group == "0000" for group in low[:whole]):
        return f"({is_ipv6} AND {ipv6_digits(column)} BETWEEN '{''.join(low)}' AND '{''.join(high)}')"
    prefix = "".join(f"{group.lstrip('0')}:" for group in low[:whole])
    tests = [f"{column} LIKE '{prefix}%'"] if whole else [is_ipv6]
    if bits:  # a group that `::` stands for is empty, and so becomes 0000
        group = f"lpad(split_part({column}, ':', {whole + 1}), 4, '0')"
        tests.append(f"{group} BETWEEN '{low[whole]}' AND '{high[whole]}'")
    return f"({' AND '.join(tests)})"


def ipv6_digits(column: str) -> str:
    """SQL that turns IPv6 text into its 32 hexadecimal digits, which compare as the addresses do.

    The groups on each side of `::` are padded to four digits; as many zeros as are missing go between them.
    """
    left, right = (f"split_part({column}, '::', {side})" for side in (1, 2))

    def groups(text: str) -> str:
        padded = f"regexp_replace({text}, '([0-9a-f]+)', '000\\1', 'g')"
        return f"regexp_replace({padded}, '0*([0-9a-f]{{4}})(:|$)', '\\1', 'g')"

    # The only texts with dots are ::1.2.3.4 and ::ffff:1.2.3.4.
    tail = f"regexp_replace({column}, '.*:', '')"
    octets = (f"TRY_CAST(split_part({tail}, '.', {index}) AS INTEGER)" for index in (1, 2, 3, 4))
    mapped = f"CASE WHEN {column} LIKE '::ffff:%' THEN 'ffff' ELSE '0000' END"
    dotted = " || ".join([f"'{'0' * 20}'", mapped, *(f"lpad(lower(hex({octet})), 2, '0')" for octet in octets)])
    plain = f"rpad({groups(left)}, CAST(32 - length({groups(right)}) AS INTEGER), '0') || {groups(right)}"
    return f"(CASE WHEN {column} LIKE '%.%' THEN {dotted} ELSE {plain} END)"


def _owner(node: Owner, text: str, cgroup_numbers: CgroupNumbers | None) -> str:
    match node.kind, node.value:
        case "process", str(value):
            return f"process_name = {quoted(value)}"
        case "unit", str(value):
            return f"process_unit = {quoted(value)}"
        case "container", str(value):
            return f"container_id LIKE '{value}%'"  # hexadecimal digits: nothing to escape
        case "cgroup", int(value):
            return f"cgroup_id = {value}"
        case "cgroup", str(value):
            if cgroup_numbers is None:
                raise FilterError(
                    "a trace knows cgroups by number, not by path",
                    "write unit NAME, container ID or cgroup NUMBER",
                    text=text,
                    span=node.span,
                )
            numbers = ", ".join(str(number) for number in sorted(cgroup_numbers(value)))
            return f"cgroup_id IN ({numbers})" if numbers else "FALSE"
        case kind, value:
            return f"process_{kind} = {value}"
