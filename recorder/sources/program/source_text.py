"""A program's C text with its comments told from its code, and errors that point into it.

Everything here keeps the length of the text: a position in one form is the same position in every other.
"""

from __future__ import annotations

import re
from functools import cached_property

from netrec.errors import ProgramError

_COMMENT = re.compile(r'//(?:[^\\\n]|\\.)*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|' + r"'(?:\\.|[^'\\\n])*'", re.DOTALL)


class SourceText:
    """The text of one file; `name` is how messages call it."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    @cached_property
    def code(self) -> str:
        """The text without its comments, spaces in their place."""
        return _COMMENT.sub(lambda match: match[0] if match[0][0] in "\"'" else _blank(match[0]), self.text)

    @cached_property
    def bare(self) -> str:
        """The text without comments, and with nothing between the quotes of its strings."""
        return _COMMENT.sub(
            lambda match: (
                match[0][0] + _blank(match[0][1:-1]) + match[0][-1] if match[0][0] in "\"'" else _blank(match[0])
            ),
            self.text,
        )

    @cached_property
    def comments(self) -> list[tuple[int, int, str]]:
        """(start, end, words) of every comment; consecutive lines of `//` are one, joined by newlines."""
        found: list[tuple[int, int, str]] = []
        for match in _COMMENT.finditer(self.text):
            if match[0][0] in "\"'":
                continue
            words = _words(match[0])
            if found and match[0].startswith("//"):
                start, end, before = found[-1]
                between = self.text[end : match.start()]
                alone = not self.text[self.text.rfind("\n", 0, match.start()) + 1 : match.start()].strip()
                if alone and between.strip() == "" and between.count("\n") == 1 and self.text.startswith("//", start):
                    first = self.text[self.text.rfind("\n", 0, start) + 1 : start]
                    if not first.strip():  # what stands behind code is about that line only
                        found[-1] = (start, match.end(), f"{before}\n{words}")
                        continue
            found.append((match.start(), match.end(), words))
        return found

    def line(self, position: int) -> int:
        """The line, from 1, that a position is on."""
        return self.text.count("\n", 0, position) + 1

    def error(self, position: int, message: str, hint: str = "") -> ProgramError:
        """An error about the line at a position."""
        return self.error_at(self.line(position), message, hint)

    def error_at(self, line: int, message: str, hint: str = "") -> ProgramError:
        """An error about a line."""
        return ProgramError(f"{self.name}:{line}: {message}", hint, lines=self.quote(line))

    def quote(self, line: int) -> tuple[str, ...]:
        """A line's text, as the details of an error; empty when there is no such line."""
        lines = self.text.splitlines()
        return (f"{line:>4} | {lines[line - 1]}",) if 0 < line <= len(lines) else ()


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _words(comment: str) -> str:
    if comment.startswith("//"):
        return comment.lstrip("/").strip()
    lines = (line.strip().removeprefix("*").strip() for line in comment[2:-2].strip("*").split("\n"))
    return "\n".join(lines).strip()
