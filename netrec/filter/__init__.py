"""The filter language: tcpdump's expressions over flows, and their owners.

    tokens.py, values.py, parser.py    text -> tree (nodes.py), with the place of every error
    dialect.py                         is a text meant in this language, or as SQL?
    evaluate.py                        tree -> NumPy mask over columns: what the others must agree with
    sql.py                             tree -> SQL condition over the fields of the flows table
    bpf.py                             tree -> C expression for an eBPF program
    nftables.py                        tree -> nft matches, for what is handed to the transparent proxy

Imports neither an SQL engine nor bcc.
"""

from netrec.filter.parser import parse

__all__ = ["parse"]
