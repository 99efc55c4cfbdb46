"""`--filter`: an expression in tcpdump's language, or in SQL over the documented fields of a table; nothing but that.

`netrec.filter.dialect` tells the two apart, and the first is turned into SQL. That is parsed by DuckDB; what comes out
is checked node by node (no subquery, no table function, known fields only) and written back as SQL from the checked
tree, so that nothing of the original text reaches a query.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from analyze.engine import duckdb
from analyze.messages import first_sentence, nearest
from analyze.result import described, first, quoted
from netrec.errors import QueryError
from netrec.filter.dialect import is_expression
from netrec.filter.sql import to_sql

_CLASSES = {
    "CONJUNCTION",
    "COMPARISON",
    "CONSTANT",
    "COLUMN_REF",
    "FUNCTION",
    "OPERATOR",
    "CAST",
    "TYPE",
    "BETWEEN",
    "CASE",
    "COLLATE",
}
# Scalar functions that look outside their arguments, or do something.
_REFUSED = {"getenv", "getvariable", "current_setting", "nextval", "currval", "write_log", "setseed", "error", "query"}
_EXAMPLE = 'write for example --filter "server_port = 443 and client_bytes > 1000", or --filter "tcp port 443"'
# Gauges and the recorder's health are about a whole host: a filter on flows does not select among them.
_WHOLE_HOST = {"host", "health"}


class Filter:
    """A checked filter over these tables. Raises `QueryError` when it is not an expression over fields of theirs."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, text: str, tables: Sequence[str]) -> None:
        self.text = text
        self._fields = {name: _columns(connection, name) for name in tables}
        where, tree = _parse(connection, to_sql(text) if is_expression(text) else text)
        nodes = list(_expressions(where))
        _check_nodes(connection, nodes)
        self.columns = {".".join(node["column_names"]) for node in nodes if node["class"] == "COLUMN_REF"}
        known = sorted({field for fields in self._fields.values() for field in fields})
        for column in sorted(self.columns):
            if column.lower() not in known:
                raise QueryError(f"--filter: there is no field {column!r}", nearest(column, known))
        canonical = str(first(connection, "select json_deserialize_sql(?::JSON)", [json.dumps(tree)])[0])
        self._condition = canonical.split(" WHERE ", 1)[1].rstrip(";")
        self._check_types(connection)

    def condition(self, table: str) -> str:
        """The filter as a condition on a table; empty for the tables that it does not select among.

        Raises `QueryError` when it names a field that the table does not have.
        """
        lacking = sorted(column for column in self.columns if column.lower() not in self._fields[table])
        if not lacking:
            return self._condition
        if table in _WHOLE_HOST:
            return ""
        raise QueryError(f"--filter: {table} have no field {lacking[0]!r}", nearest(lacking[0], self._fields[table]))

    def _check_types(self, connection: duckdb.DuckDBPyConnection) -> None:
        for table in self._fields:
            if all(column.lower() in self._fields[table] for column in self.columns):
                try:
                    # A row, so that a constant that cannot be converted shows now and not in the middle of a query.
                    connection.execute(
                        f"create or replace temp table filter_probe as select * from {quoted(f'empty_{table}')}"
                    )
                    connection.execute("insert into filter_probe (host) values ('')")
                    connection.execute(f"select 1 from filter_probe where ({self._condition})")
                except duckdb.Error as problem:
                    raise QueryError(f"--filter: {first_sentence(problem)}", _EXAMPLE) from None
                connection.execute("drop table filter_probe")
                return
        raise QueryError("--filter: no table has all of its fields", f"it names {', '.join(sorted(self.columns))}")


def _columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [name for name, _ in described(connection, quoted(f"empty_{table}"))]


def _parse(connection: duckdb.DuckDBPyConnection, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    tree = json.loads(first(connection, "select json_serialize_sql(?)", [f"select 1 where (\n{text}\n)"])[0])
    if tree.get("error"):
        message = str(tree.get("error_message", "it cannot be read")).splitlines()[0]
        raise QueryError(f"--filter: {text!r} is not an SQL expression ({message})", _EXAMPLE)
    statements = tree["statements"]
    node = statements[0]["node"]
    expected = len(statements) == 1 and node["type"] == "SELECT_NODE" and not node["modifiers"]
    plain = expected and not any(node.get(part) for part in ("group_expressions", "having", "qualify", "sample"))
    if not plain or not node.get("where_clause"):
        raise QueryError("--filter: it holds more than one expression", _EXAMPLE)
    return node["where_clause"], tree


def _expressions(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree and "type" in tree:
            yield tree
        for value in tree.values():
            yield from _expressions(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _expressions(value)


def _check_nodes(connection: duckdb.DuckDBPyConnection, nodes: list[dict[str, Any]]) -> None:
    for node in nodes:
        if node["class"] not in _CLASSES:
            raise QueryError(f"--filter: a {node['class'].lower()} is not allowed in a filter", _EXAMPLE)
        if node["class"] == "FUNCTION" and not node.get("is_operator"):
            name = str(node["function_name"]).lower()
            known = connection.execute(
                "select 1 from duckdb_functions() where function_name = ? and function_type in ('scalar', 'macro')",
                [name],
            ).fetchall()
            if not known or name in _REFUSED:
                raise QueryError(f"--filter: there is no function {name!r} for filters", _EXAMPLE)
