"""The filter language: tcpdump's expressions over flows, and their owners.

    tokens.py, values.py, parser.py    text -> tree (nodes.py), with the place of every error
    dialect.py                         is a text meant in this language, or as SQL?
    evaluate.py                        tree -> NumPy mask over columns: what the others must agree with
    sql.py                             tree -> SQL condition over the fields of the flows table
    bpf.py                             tree -> C expression for an eBPF program
    nftables.py                        tree -> nft matches, for what is handed to the transparent proxy

Imports neither an SQL engine nor bcc.
"""

from __future__ import annotations

from dataclasses import dataclass

from netrec.filter.nodes import Expression, Owner, terms
from netrec.filter.parser import parse

__all__ = ["Filter", "parse"]


@dataclass(frozen=True)
class Filter:
    """A filter as it was given (`str()` of it), read once: names in it are looked up when it is read."""

    text: str
    expression: Expression

    @classmethod
    def read(cls, text: str) -> Filter | None:
        """None for an empty text. Raises `FilterError` with the place of what is wrong."""
        return cls(text, parse(text)) if text.strip() else None

    def owners(self) -> list[Owner]:
        """The terms about the owning process."""
        return [term for term in terms(self.expression) if isinstance(term, Owner)]

    def __str__(self) -> str:
        return self.text
