"""The header of a query file: what the command is called, takes and returns, in the comment that the file begins with.

    -- Who moved the most traffic.                                    first sentence: the one-line help
    --
    -- When a link is full: ...                                       the page
    --
    -- @table   flows                                                 tables that it needs (one per line)
    -- @param   by    dimension(pair, client, server) = pair: what to group by
    -- @param   n     integer = 10: rows to show
    -- @column  bytes BIGINT bytes: payload bytes, both ways           name, SQL type, unit (optional): meaning
    -- @chart   bar   x=bytes y=talker
    -- @example web-day n=3                                           a sample trace and parameters
    -- @expect  10.0.0.5 -> 10.0.0.9 | 123456                         its first rows; `...` matches any value
    -- @expect  (no rows)                                             or that it has none

Types of a parameter: `choice(a, b)`, `dimension(a, b)`, `integer`, `number`, `text`, `boolean`, `duration`, `time`.
Without a default it is required; with `= none` it is null when it is not given. In the SQL `$name` is its value: text,
a number, a boolean, a duration as BIGINT microseconds, a time as text to cast to TIMESTAMPTZ. A dimension is not a
value but a set of columns:
`{by.keys}` stands for the columns and `{by.label}` for the expression that shows them as one text, both from the
`@dimension` lines of `_shared/`:

    -- @dimension pair: client_address, server_address = client_address || ' -> ' || server_address
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from netrec.errors import QueryError

TYPES = ("choice", "dimension", "integer", "number", "text", "boolean", "duration", "time")
UNITS = ("", "bytes", "bytes/s", "bits/s", "packets", "flows", "flows/s", "segments", "events", "rows", "us", "ms", "s",
         "ratio", "count")  # fmt: skip
CHARTS = ("bar", "line", "area", "scatter", "curve", "heatmap", "graph", "interval", "band", "span", "none")
NO_ROWS = "(no rows)"
_NAME = r"[a-z][a-z0-9_]*"
_PARAM = re.compile(
    rf"(?P<name>{_NAME})\s+(?P<type>[a-z]+)(?:\((?P<choices>[^)]*)\))?(?:\s*=\s*(?P<default>[^:]+?))?\s*:\s*(?P<help>.+)"
)
_COLUMN = re.compile(rf"(?P<name>{_NAME})\s+(?P<type>[A-Z][A-Z ]*[A-Z])(?:\s+(?P<unit>[a-z/]+))?\s*:\s*(?P<meaning>.+)")
_CHART = re.compile(rf"(?P<kind>[a-z]+)(?P<axes>(?:\s+[a-z]+={_NAME})*)")
_DIMENSION = re.compile(rf"(?P<name>{_NAME})\s*:\s*(?P<keys>{_NAME}(?:\s*,\s*{_NAME})*)\s*=\s*(?P<label>.+)")


@dataclass(frozen=True)
class Parameter:
    """One `@param`; `default` is its text, None when it is required; `optional` when it may be null."""

    name: str
    type: str
    choices: tuple[str, ...]
    default: str | None
    optional: bool
    help: str


@dataclass(frozen=True)
class DeclaredColumn:
    """One `@column`."""

    name: str
    type: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Chart:
    """`@chart`: its kind, and which column is on which axis."""

    kind: str
    axes: dict[str, str]


@dataclass
class Example:
    """`@example` with the `@expect` lines that follow it; `empty`: it has no row."""

    sample: str
    parameters: dict[str, str]
    expect: list[tuple[str, ...]] = field(default_factory=list)
    empty: bool = False


@dataclass(frozen=True)
class Dimension:
    """Something to group by: the columns that identify it, and the SQL expression that names it."""

    name: str
    keys: tuple[str, ...]
    label: str


@dataclass
class Query:
    """A parsed query file; `sql` is the statement without the header."""

    name: str
    path: Path
    summary: str
    description: str
    sql: str
    tables: list[str] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    columns: list[DeclaredColumn] = field(default_factory=list)
    chart: Chart | None = None
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class SharedFile:
    """A parsed file of `_shared/`."""

    path: Path
    sql: str
    tables: tuple[str, ...]
    dimensions: tuple[Dimension, ...]


def parse(path: Path, name: str) -> Query:
    """Read a query file. Raises `QueryError` that names the file and line of what is malformed."""
    text, tags, sql = _split(path)
    summary = " ".join(text.partition("\n\n")[0].split())
    if not summary:
        raise QueryError(f"{path}:1: a query file begins with a comment that says what it answers")
    if not sql.strip():
        raise QueryError(f"{path}: it holds no SQL below its header")
    query = Query(name, path, summary, text.partition("\n\n")[2].strip(), sql)
    for line, tag, rest in tags:
        where = f"{path}:{line}"
        if tag == "table":
            query.tables.append(_word(rest, where))
        elif tag == "param":
            query.parameters.append(_parameter(rest, where))
        elif tag == "column":
            query.columns.append(_column(rest, where))
        elif tag == "chart":
            query.chart = _chart(rest, where)
        elif tag == "example":
            query.examples.append(_example(rest, where))
        elif tag == "expect":
            if not query.examples:
                raise QueryError(f"{where}: @expect comes before any @example")
            if rest == NO_ROWS:
                query.examples[-1].empty = True
            else:
                query.examples[-1].expect.append(tuple(cell.strip() for cell in rest.split(" | ")))
        else:
            raise QueryError(f"{where}: unknown tag @{tag}", "known are @table @param @column @chart @example @expect")
    _check(query)
    return query


def parse_shared(path: Path) -> SharedFile:
    """Read a file of `_shared/`. Raises `QueryError` as `parse` does."""
    _, tags, sql = _split(path)
    found: list[Dimension] = []
    tables: list[str] = []
    for line, tag, rest in tags:
        where = f"{path}:{line}"
        if tag == "table":
            tables.append(_word(rest, where))
        elif tag == "dimension":
            match = _match(_DIMENSION, rest, where, "@dimension NAME: COLUMN, ... = LABEL")
            found.append(
                Dimension(match["name"], tuple(key.strip() for key in match["keys"].split(",")), match["label"])
            )
        else:
            raise QueryError(f"{where}: unknown tag @{tag}", "known in _shared are @table and @dimension")
    return SharedFile(path, sql, tuple(tables), tuple(found))


def _split(path: Path) -> tuple[str, list[tuple[int, str, str]], str]:
    """The prose, the tags as (line, tag, rest), and the SQL below the header."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise QueryError(f"cannot read the query file {path} ({problem})") from None
    prose: list[str] = []
    tags: list[tuple[int, str, str]] = []
    number = 0
    while number < len(lines) and (lines[number].startswith("--") or not lines[number].strip()):
        body = lines[number][2:].strip()
        number += 1
        if body.startswith("@"):
            tag, _, rest = body[1:].partition(" ")
            tags.append((number, tag, rest.strip()))
        elif lines[number - 1].startswith("--"):
            prose.append(body)
    return "\n".join(prose).strip(), tags, "\n".join(lines[number:])


def _parameter(rest: str, where: str) -> Parameter:
    match = _match(_PARAM, rest, where, "@param NAME TYPE = DEFAULT: HELP")
    kind, default = match["type"], match["default"]
    if kind not in TYPES:
        raise QueryError(f"{where}: unknown type {kind!r} of a parameter", f"known are {', '.join(TYPES)}")
    choices = tuple(choice.strip() for choice in (match["choices"] or "").split(",") if choice.strip())
    if bool(choices) != (kind in {"choice", "dimension"}):
        raise QueryError(
            f"{where}: a {kind} {'takes' if not choices else 'does not take'} a list of choices in parentheses"
        )
    if choices and default is not None and default not in (*choices, "none"):
        raise QueryError(f"{where}: the default {default!r} is not one of the choices {', '.join(choices)}")
    return Parameter(match["name"], kind, choices, default, default == "none", match["help"])


def _column(rest: str, where: str) -> DeclaredColumn:
    match = _match(_COLUMN, rest, where, "@column NAME TYPE UNIT: MEANING")
    unit = match["unit"] or ""
    if unit not in UNITS:
        raise QueryError(f"{where}: unknown unit {unit!r}", f"known are {', '.join(UNITS[1:])}")
    return DeclaredColumn(match["name"], match["type"], unit, match["meaning"])


def _chart(rest: str, where: str) -> Chart:
    match = _match(_CHART, rest, where, "@chart KIND x=COLUMN y=COLUMN")
    if match["kind"] not in CHARTS:
        raise QueryError(f"{where}: unknown chart {match['kind']!r}", f"known are {', '.join(CHARTS)}")
    return Chart(match["kind"], dict(axis.split("=") for axis in match["axes"].split()))


def _example(rest: str, where: str) -> Example:
    words = shlex.split(rest)
    if not words or any("=" not in word for word in words[1:]):
        raise QueryError(f"{where}: malformed @example", "write @example SAMPLE NAME=VALUE ...")
    return Example(words[0], dict(word.split("=", 1) for word in words[1:]))


def _word(rest: str, where: str) -> str:
    if not re.fullmatch(_NAME, rest):
        raise QueryError(f"{where}: malformed name {rest!r}")
    return rest


def _match(pattern: re.Pattern[str], rest: str, where: str, form: str) -> re.Match[str]:
    match = pattern.fullmatch(rest)
    if not match:
        raise QueryError(f"{where}: malformed {form.split()[0]} line", f"write {form}")
    return match


def _check(query: Query) -> None:
    for kind, names in (
        ("parameter", [parameter.name for parameter in query.parameters]),
        ("column", [column.name for column in query.columns]),
    ):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise QueryError(f"{query.path}: the {kind} {min(twice)!r} is declared twice")
    if not query.columns:
        raise QueryError(f"{query.path}: it declares no @column")
    columns = {column.name for column in query.columns}
    for axis, column in (query.chart.axes if query.chart else {}).items():
        if column not in columns:
            raise QueryError(f"{query.path}: the chart's {axis}={column} is no column of the query")
