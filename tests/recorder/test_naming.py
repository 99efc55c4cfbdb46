"""Names of addresses in rows: which rows get them, and which keep what they have."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from netrec.trace import tables
from recorder.dns.names import NameTable
from recorder.naming import fill
from recorder.source import Source

SECOND = 1_000_000
OFFSET = 1_700_000_000 * SECOND
NETNS = 4026531840


class Knows:
    def __init__(self, names: NameTable) -> None:
        self._names = names

    def names(self) -> tuple[NameTable, int]:
        return self._names, OFFSET


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Flows of TCP from 10.0.0.1 to 192.0.2.1 in NETNS that began in second 10, unless a row says otherwise."""
    default = {"transport": "tcp", "client_address": "10.0.0.1", "server_address": "192.0.2.1", "netns": NETNS}
    whole = [default | {"flow_start_time": 10, "start_time": 10} | row for row in rows]
    columns = {}
    for name in {name for row in whole for name in row}:
        values = [row.get(name) for row in whole]
        if name.endswith("_time"):
            columns[name] = pa.array([None if one is None else OFFSET + one * SECOND for one in values], pa.int64())
        else:
            columns[name] = pa.array(values)
    return tables.batch(tables.FLOWS, columns, len(whole))


def named(rows: list[dict[str, Any]], names: NameTable) -> list[dict[str, Any]]:
    # A part of a longer batch, so that offsets into Arrow's buffers are not all zero.
    whole = batch([{"server_address": "198.51.100.9"}, *rows]).slice(1)
    sources: Any = {"one": Knows(names), "other": object()}
    result: dict[str, Source] = sources
    ((source, filled),) = fill([("other", whole)], result)
    assert source == "other"
    filled.validate(full=True)
    assert filled.schema == whole.schema
    return filled.to_pylist()


def table() -> NameTable:
    names = NameTable()
    names.learn("web.example", "192.0.2.1", 300, 5 * SECOND, NETNS, 7)
    names.learn("other.example", "192.0.2.1", 300, 6 * SECOND, NETNS, 8)
    names.learn("client.example", "10.0.0.1", 300, 5 * SECOND, NETNS)
    return names


def test_names_of_both_ends_by_process_namespace_and_time() -> None:
    rows = [
        {"process_pid": 7},
        {"process_pid": 8},
        {"process_pid": 9},
        {"process_pid": None},
        {"process_pid": 7, "flow_start_time": 4},
        {"process_pid": 7, "netns": 1},
        {"process_pid": 7, "server_address": "192.0.2.2"},
        {"process_pid": 7, "flow_start_time": None},
        {"process_pid": 7, "flow_start_time": None, "transport": "udp"},
    ]
    found = named(rows, table())
    assert [row["server_name"] for row in found] == [
        "web.example",
        "other.example",
        "other.example",
        "other.example",
        None,
        None,
        None,
        None,
        "web.example",
    ]
    assert [row["server_name_source"] for row in found] == [row["server_name"] and "dns" for row in found]
    assert [row["client_name"] is not None for row in found] == [True] * 4 + [False, False, True, False, True]


def test_a_name_that_the_session_told_stays() -> None:
    rows = [
        {"server_name": "told.example", "server_name_source": "tls", "process_pid": 7},
        {"server_name": None, "server_name_source": None, "process_pid": 7},
    ]
    found = named(rows, table())
    assert [(row["server_name"], row["server_name_source"]) for row in found] == [
        ("told.example", "tls"),
        ("web.example", "dns"),
    ]


def test_without_names_nothing_changes() -> None:
    assert [row["server_name"] for row in named([{}, {}], NameTable())] == [None, None]
    empty: Any = {"one": Knows(table())}
    assert fill([("one", batch([{}]).slice(1))], empty)[0][1].num_rows == 0
