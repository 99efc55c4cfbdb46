"""Tree -> NumPy mask over the rows of a flows batch: what a filter means, in its plainest form.

The other compilers are tested against this one; the recorder applies it to what the kernel could not decide.
A value that is unknown (null) makes its term untrue.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import numpy as np
import pyarrow as pa

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
from netrec.protocols import transport_name

Mask = np.ndarray


def evaluate(
    expression: Expression,
    flows: pa.RecordBatch | pa.Table,
    *,
    cgroup_numbers: CgroupNumbers | None = None,
) -> Mask:
    """Which rows match: a boolean array with one value a row.

    `flows` has the columns of the flows table that the expression is about; `cgroup_numbers` is needed for `cgroup
    /path` alone (`ValueError` without it).
    """
    return _Evaluation(flows, cgroup_numbers).mask(expression)


class _Evaluation:
    def __init__(self, flows: pa.RecordBatch | pa.Table, cgroup_numbers: CgroupNumbers | None) -> None:
        self.flows = flows
        self.cgroup_numbers = cgroup_numbers

    def mask(self, node: Expression) -> Mask:
        match node:
            case And():
                return self.mask(node.left) & self.mask(node.right)
            case Or():
                return self.mask(node.left) | self.mask(node.right)
            case Not():
                return ~self.mask(node.operand)
            case Family():
                return self.texts("network_type", lambda text: text == f"ipv{node.version}")
            case Protocol():
                name = transport_name(node.number)
                mask = self.texts("transport", lambda text: text == name)
                return mask & self.mask(Family(node.version)) if node.version else mask
            case Address():
                networks = node.networks
                return self.sides(
                    node.direction, lambda side: self.texts(f"{side}_address", lambda text: contains(networks, text))
                )
            case Port():
                names = {transport_name(number) for number in node.protocols}
                low, high = node.low, node.high
                ports = self.sides(
                    node.direction, lambda side: self.numbers(f"{side}_port", lambda it: (it >= low) & (it <= high))
                )
                return ports & self.texts("transport", lambda text: text in names)
            case Owner():
                return self.owner(node)

    def owner(self, node: Owner) -> Mask:
        value = node.value
        match node.kind:
            case "process":
                return self.texts("process_name", lambda text: text == value)
            case "container":
                return self.texts("container_id", lambda text: text.startswith(str(value)))
            case "unit":
                return self.texts("process_unit", lambda text: text == value)
            case "cgroup":
                if isinstance(value, int):
                    return self.numbers("cgroup_id", lambda it: it == value)
                if self.cgroup_numbers is None:
                    raise ValueError("the numbers of cgroups below a path are needed")
                numbers = np.array(sorted(self.cgroup_numbers(value)), dtype=np.int64)
                return self.numbers("cgroup_id", lambda it: np.isin(it, numbers))
            case kind:
                return self.numbers(f"process_{kind}", lambda it: it == value)

    def sides(self, direction: Direction, mask: Callable[[str], Mask]) -> Mask:
        match direction:
            case "either":
                return mask("client") | mask("server")
            case "both":
                return mask("client") & mask("server")
            case side:
                return mask(side)

    def texts(self, column: str, test: Callable[[str], bool]) -> Mask:
        """The test is made once for each different value."""
        values = self.column(column)
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        found = np.array([text is not None and test(text) for text in values.dictionary.to_pylist()] + [False], bool)
        codes, known = _content(values.indices)
        return found[np.where(known, codes, len(found) - 1)]

    def numbers(self, column: str, test: Callable[[np.ndarray], Mask]) -> Mask:
        codes, known = _content(self.column(column))
        return known & test(codes)

    def column(self, name: str) -> pa.Array:
        values = self.flows.column(name)
        return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _content(values: pa.Array) -> tuple[np.ndarray, Mask]:
    """An integer column's values and which of them are known, read from its buffers.

    Without the methods of Array: they import pyarrow.compute, which a recorder does without.
    """
    validity, data = values.buffers()
    start, end = values.offset, values.offset + len(values)
    known = np.ones(len(values), bool)
    if validity is not None:
        known = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[start:end].astype(bool)
    return np.frombuffer(data, values.type.to_pandas_dtype())[start:end], known


def contains(networks: tuple[Network, ...], text: str) -> bool:
    """Whether an address in text form lies in one of the networks; False for what is no address."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return any(address in network for network in networks)
