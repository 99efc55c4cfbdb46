"""`--filter` in the kernel: its C text, and the cgroups that it names, kept fresh.

The programs leave out what can match no row; everything else is judged on the rows. So a cgroup that was made a moment
ago, of which the kernel's map does not know yet, costs its records and nothing else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from netrec.filter import Filter
from netrec.filter.bpf import OWNER_KINDS, STRUCT, Unknown, compile_filter
from netrec.filter.nodes import Owner

MAX_CGROUPS = 65536
_REFRESH_SECONDS = 5.0
# The owner of a client is known where it connects; its port is chosen afterwards.
_FUNCTIONS: dict[str, tuple[Unknown, ...]] = {
    "filter_connecting": ("client_port", *OWNER_KINDS),
    "filter_connecting_owned": ("client_port",),
    "filter_connected": OWNER_KINDS,
    "filter_connected_owned": (),
}


@dataclass(frozen=True)
class KernelFilter:
    """The filter as C, to be put before filter.bpf.h, and what the programs have to be compiled with."""

    text: str
    defines: dict[str, int] = field(default_factory=dict)
    cgroup_terms: tuple[Owner, ...] = ()


def compile_for_kernel(given: Filter) -> KernelFilter:
    """Raises `FilterError` for a filter that is too large for the kernel."""
    compiled = {
        name: compile_filter(given.expression, text=given.text, unknown=unknown) for name, unknown in _FUNCTIONS.items()
    }
    connecting, whole = compiled["filter_connecting_owned"], compiled["filter_connected_owned"]
    defines = {"WITH_FILTER": 1, "FILTER_CLIENT_PORT": int(connecting.exact != whole.exact)}
    if given.owners():
        defines["FILTER_OWNERS"] = 1
    if whole.cgroup_terms:
        defines |= {"FILTER_CGROUPS": 1, "MAX_FILTER_CGROUPS": MAX_CGROUPS}
    text = STRUCT + "".join(one.function(name) for name, one in compiled.items())
    return KernelFilter(text, defines, whole.cgroup_terms)


class CgroupTerms:
    """Keeps the kernel's map from cgroup to the terms that it belongs to: `refresh` often, it looks now and then."""

    def __init__(self, descriptor: int, terms: tuple[Owner, ...], hybrid: bool) -> None:
        """`hybrid`: cgroups of version 1 are mounted too, and may name what version 2 does not."""
        self._descriptor, self._terms, self._hybrid = descriptor, terms, hybrid
        self._known: set[int] = set()
        self._next = 0.0

    def refresh(self) -> None:
        """Enter the cgroups that are new since, take out those that are gone."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REFRESH_SECONDS
        import numpy as np

        from recorder import cgroups
        from recorder.bpf import syscalls

        found = cgroups.paths()
        for number in self._known - found.keys():
            syscalls.delete(self._descriptor, np.array([number], np.uint64))
        self._known &= found.keys()
        fresh = {number: path for number, path in found.items() if number not in self._known}
        bits = cgroups.term_bits(self._terms, fresh.items())
        for number in list(fresh)[: MAX_CGROUPS - len(self._known)]:
            if self._hybrid and self._unnamed(fresh[number]):
                continue
            syscalls.update(self._descriptor, np.array([number], np.uint64), np.array([bits.get(number, 0)], np.uint32))
            self._known.add(number)

    def _unnamed(self, path: str) -> bool:
        """Whether a container or unit of this cgroup's processes may be named by cgroups of version 1 alone."""
        from recorder.owner_names import CgroupNames, names_from_cgroup_path

        return names_from_cgroup_path(path) == CgroupNames() and any(
            term.kind in ("container", "unit") for term in self._terms
        )
