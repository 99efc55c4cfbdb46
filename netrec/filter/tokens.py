"""A filter's text -> words with their places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from netrec.errors import FilterError
from netrec.filter.nodes import Span

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<operator>&&|\|\||\(|\)|!(?!=))
      | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
      | \\(?P<escaped>[^\s()!&|"']+)
      | (?P<word>[^\s()!&|"'\\<>=\[\]+*^]+)
    )""",
    re.VERBOSE,
)
_OPERATORS = {"&&": "and", "||": "or", "!": "not"}


@dataclass(frozen=True)
class Token:
    """A word. `literal` is one that can be no keyword (quoted, or after a backslash); the end has no text."""

    kind: Literal["word", "literal", "symbol", "end"]
    text: str
    span: Span


def fail(text: str, span: Span, message: str, hint: str = "") -> NoReturn:
    """Raise a `FilterError` that points at the place."""
    raise FilterError(message, hint, text=text, span=span)


def tokenize(text: str) -> list[Token]:
    """The words of a filter, ending with one of kind `end`. Raises `FilterError` at what can be no word."""
    found: list[Token] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            _refuse(text, start)
        start = match.end() - len(match[0].lstrip())
        position = match.end()
        group = match.lastgroup or ""
        content = match[group]
        if group == "operator":
            word = _OPERATORS.get(content, content)
            found.append(Token("symbol" if word in "()" else "word", word, (start, position)))
        else:
            found.append(Token("word" if group == "word" else "literal", content, (start, position)))
    found.append(Token("end", "", (len(text), len(text))))
    return found


def _refuse(text: str, start: int) -> NoReturn:
    character = text[start]
    if character in "\"'":
        fail(text, (start, len(text)), f"the quotation that starts here is not closed by {character}")
    if character in "<>=[]+*^!":
        fail(
            text,
            (start, start + 1),
            f"{character!r} compares bytes of a packet, which a flow does not have",
            "filter by host, net, port, portrange, protocol or owner",
        )
    fail(text, (start, start + 1), f"{character!r} has no meaning here", "write and, or, not (or &&, ||, !)")
