"""Log format strings -> regular expressions: what stands between two tokens must stand in the line.

Each proxy has its own language of tokens (haproxy.py, envoy.py, squid.py); they share what is here: a format
is a sequence of literal texts and tokens, a token captures as little as the literal after it allows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recorder.sources.proxy_logs.session import LoggedSession, Unfit

# A line longer than this is no line of a log.
LINE_LIMIT = 65536


@dataclass(frozen=True)
class Token:
    """A token of a format: its name, as its proxy writes it."""

    name: str


class Blanks:
    """Blanks that may be missing, where the token beside them may be."""


Piece = str | Token | Blanks
Parse = Callable[[str], LoggedSession]


class Pattern:
    """A compiled format: `values` takes a line apart."""

    def __init__(self, pieces: Sequence[Piece], patterns: dict[str, str] | None = None) -> None:
        """`patterns`: what a token may be, where that is narrower than anything up to the next literal."""
        self.names: list[str] = []
        text = ""
        for piece in pieces:
            if isinstance(piece, str):
                # Squid pads numbers with blanks: any run of blanks fits any other.
                text += re.sub(r"(\\ )+", r" +", re.escape(piece))
            elif isinstance(piece, Blanks):
                text += r"\s*"
            else:
                text += f"({(patterns or {}).get(piece.name, '.*?')})"
                self.names.append(piece.name)
        self._expression = re.compile(text + r"\s*\Z")

    def values(self, line: str) -> dict[str, str]:
        """Token name -> text; of a repeated token the first. Raises `Unfit` when the line is of another format."""
        if len(line) > LINE_LIMIT:
            raise Unfit("the line is too long")
        found = self._expression.match(line)
        if not found:
            raise Unfit("the line does not have the format")
        values: dict[str, str] = {}
        for name, value in zip(self.names, found.groups(), strict=True):
            values.setdefault(name, value)
        return values


def integer(text: str | None) -> int | None:
    """A whole number; None for `-`, -1 (a phase that was not reached) or nothing. Raises `Unfit` for anything else."""
    if text is None or text in ("-", ""):
        return None
    try:
        value = int(text.lstrip("+"))
    except ValueError:
        raise Unfit(f"{text!r} is not a number") from None
    return None if value < 0 else value


def milliseconds(text: str | None) -> int | None:
    """Milliseconds as microseconds, as `integer` reads them."""
    value = integer(text)
    return None if value is None else value * 1000


def known(text: str | None) -> str | None:
    """The text, or None for what proxies write for nothing."""
    return None if text in (None, "", "-", '"-"') else text
