"""Every error that netrec shows to a user.

    NetrecError                exit 2   one sentence, with the next step
    ├── UsageError             exit 2   the command line or a setting is wrong
    ├── CannotRecordError      exit 2   a source cannot run here (no root, no BTF, bcc missing, ...)
    │   └── ProgramError       exit 2   a user's eBPF program is refused; points at the line
    ├── TraceError             exit 2   a trace folder or file cannot be read
    │   └── MissingTableError  exit 2   the trace has no such table
    └── QueryError             exit 2   a query file, filter or SQL text is wrong
        └── FilterError        exit 2   a filter expression is wrong; points at the place

Nothing but `netrec.cli` turns an error into an exit code. A message is one sentence that
names the thing that is wrong; `hint` is the next step, also one sentence.
"""

from __future__ import annotations


class NetrecError(Exception):
    """An error meant for the user: `message` says what is wrong, `hint` (may be empty) what to do next."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def details(self) -> tuple[str, ...]:
        """Lines to show below the sentence: the place in a text, for example."""
        return ()

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}: {self.hint}" if self.hint else self.message


class UsageError(NetrecError):
    """The command line, a configuration file or an environment variable holds something unusable."""


class CannotRecordError(NetrecError):
    """A source cannot run on this host; the hint is the one command that helps."""


class ProgramError(CannotRecordError):
    """A user's eBPF program is wrong, does not compile or is not allowed: `lines` are shown below the sentence."""

    def __init__(self, message: str, hint: str = "", *, lines: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.lines = lines

    @property
    def details(self) -> tuple[str, ...]:
        return self.lines


class TraceError(NetrecError):
    """A trace folder or one of its files does not exist or cannot be read."""


class MissingTableError(TraceError):
    """The trace has no such table; the hint says how to record it."""


class QueryError(NetrecError):
    """A query file, a filter expression or an SQL text is wrong."""


class FilterError(QueryError):
    """A filter expression is wrong: `span` (first character, one past the last) is the place in `text`."""

    def __init__(self, message: str, hint: str = "", *, text: str = "", span: tuple[int, int] = (0, 0)) -> None:
        super().__init__(message, hint)
        self.text = text
        self.span = span

    @property
    def details(self) -> tuple[str, ...]:
        """The text and, below it, a caret under the place. Control characters take one column, as a space."""
        start, end = self.span
        shown = "".join(character if character.isprintable() else " " for character in self.text)
        return (shown, " " * start + "^" + "~" * (min(end, len(shown)) - start - 1)) if shown else ()
