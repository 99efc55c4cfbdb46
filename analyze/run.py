"""A parsed query and the texts of its parameters -> a result.

Values are bound, never pasted. A dimension is the exception that SQL needs: `{by.keys}` and `{by.label}` become columns
and an expression of the shared files, chosen by a name out of the query's closed list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from analyze.header import Dimension, Parameter, Query
from analyze.result import Column, Result, microseconds
from analyze.scan import Scan
from analyze.window import parse_time
from netrec.errors import QueryError, UsageError
from netrec.text import parse_duration

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\.(keys|label)\}")
# The statement ends in a limit by $n.
_CUT = re.compile(r"\blimit\b[^;()]*\$n\b[^;()]*;?\s*\Z", re.IGNORECASE)
_BOUND = re.compile(r"\$([a-z][a-z0-9_]*)")


def run(query: Query, scan: Scan, given: Mapping[str, Any], dimensions: Mapping[str, Dimension]) -> Result:
    """Run a query with the parameters that were given (texts, or values of the parameter's type).

    Raises `MissingTableError` when the traces lack a table that it needs, `UsageError` for a parameter that cannot be
    read, `QueryError` when its SQL is wrong.
    """
    for table in query.tables:
        scan.require(table)
    values = parameter_values(query, given, scan)
    sql = expand(query, values, dimensions)
    bound = {name: values[name] for name in set(_BOUND.findall(sql)) if name in values}
    columns = [Column(column.name, column.type, column.unit, column.meaning) for column in query.columns]
    result = scan.query(sql, bound, columns, query.name)
    if _CUT.search(query.sql):
        result.most = values.get("n") or 0
    result.chart, result.summary, result.sql = query.chart, query.summary, sql
    return result


def parameter_values(query: Query, given: Mapping[str, Any], scan: Scan) -> dict[str, Any]:
    """Every parameter of the query as the value that is bound; raises `UsageError`."""
    unknown = given.keys() - {parameter.name for parameter in query.parameters}
    if unknown:
        known = ", ".join(parameter.name for parameter in query.parameters) or "none"
        raise UsageError(f"{query.name} has no parameter {min(unknown)!r}", f"its parameters are {known}")
    return {parameter.name: _value(query, parameter, given.get(parameter.name), scan) for parameter in query.parameters}


def expand(query: Query, values: Mapping[str, Any], dimensions: Mapping[str, Dimension]) -> str:
    """The SQL with its dimensions filled in."""

    def fill(match: re.Match[str]) -> str:
        name = values.get(match[1])
        if name is None or name not in dimensions:
            raise QueryError(
                f"{query.path}: {match[0]} names no dimension", "declare it with @param ... dimension(...)"
            )
        dimension = dimensions[name]
        return ", ".join(dimension.keys) if match[2] == "keys" else dimension.label

    return _PLACEHOLDER.sub(fill, query.sql)


def _value(query: Query, parameter: Parameter, given: Any, scan: Scan) -> Any:
    if given is None:
        if parameter.default is None:
            raise UsageError(f"{query.name} needs --{parameter.name.replace('_', '-')}", parameter.help)
        if parameter.optional:
            return None
        given = parameter.default
    try:
        return _read(parameter, given, scan)
    except ValueError as problem:
        raise UsageError(f"--{parameter.name.replace('_', '-')}: {problem}") from None


def _read(parameter: Parameter, given: Any, scan: Scan) -> Any:
    text = str(given).strip()
    if parameter.type in {"choice", "dimension"}:
        if text not in parameter.choices:
            raise ValueError(f"{text!r} is none of {', '.join(parameter.choices)}")
        return text
    if parameter.type == "integer":
        return _number(text, int, "a whole number")
    if parameter.type == "number":
        return _number(text, float, "a number")
    if parameter.type == "boolean":
        if text.lower() not in {"true", "false", "yes", "no", "1", "0"}:
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in {"true", "yes", "1"}
    if parameter.type == "duration":
        return round(parse_duration(text) * 1e6)
    if parameter.type == "time":
        moment = parse_time(text, f"--{parameter.name}", scan.end, scan.timezone)
        return f"{moment:%Y-%m-%d %H:%M:%S.%f}+00" if microseconds(moment) else None
    return text


def _number(text: str, kind: type, words: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"{text!r} is not {words}") from None
    if value < 0:
        raise ValueError(f"{text!r} is negative")
    return value
