"""The click root: finds the commands of both sides lazily, and is the only place where an error becomes an exit code.

`recorder.cli.COMMANDS` and `analyze.cli.COMMANDS` map a command's name to (module, attribute, one-line help);
a command's module is imported when it is invoked, so that `netrec --help` stays fast and the recorder never
loads DuckDB.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click

from netrec import __version__
from netrec.errors import NetrecError

Commands = dict[str, tuple[str, str, str]]


class LazyGroup(click.Group):
    """A click group whose commands are imported on use.

    `lazy` maps name -> (module, attribute, one-line help).
    """

    def __init__(self, *args: Any, lazy: Commands | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lazy: Commands = lazy or {}

    def list_commands(self, context: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(context)]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name in self.lazy:
            module, attribute, _ = self.lazy[name]
            return getattr(importlib.import_module(module), attribute)
        return super().get_command(context, name)

    def resolve_command(self, context: click.Context, arguments: list[str]) -> Any:
        name = arguments[0]
        command = self.get_command(context, name)
        if command is not None:
            return name, command, arguments[1:]
        if not name.startswith("-"):
            raise click.UsageError(_unknown(name, self.list_commands(context)), context)
        return super().resolve_command(context, arguments)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, help) for name, (_, _, help) in self.lazy.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _unknown(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no command {name!r}: did you mean {near[0]!r}?"
    return f"there is no command {name!r}: the commands are {', '.join(known)}."


def _commands() -> Commands:
    commands: Commands = {}
    for side in ("recorder.cli", "analyze.cli"):
        commands |= importlib.import_module(side).COMMANDS
    return commands


class _ReaderGoneError(Exception):
    """Whoever read standard output (head, less) has gone. click itself would end the process for an EPIPE."""


class Root(LazyGroup):
    """All of the command line."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _watched():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with _watched():
            return super().invoke(context)


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise _ReaderGoneError from None


@click.group(
    cls=Root,
    lazy=_commands(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="netrec")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def root(debug: bool) -> None:
    """Record a host's network traffic into Parquet, cheaply; answer questions from it, afterwards and offline.

    \b
    netrec record -o trace --duration 10m
    netrec analyze top-talkers trace
    """


def main(arguments: list[str] | None = None) -> None:
    """Run netrec; exits with 0 fine, 1 a finding, 2 an error, 3 inconclusive, 130 interrupted, 141 nobody reads on."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or bool(os.environ.get("NETREC_DEBUG"))
    # --debug is accepted anywhere on the line.
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = root.main(given, prog_name="netrec", standalone_mode=False)
        sys.stdout.flush()
        if arguments is None and not debug:
            _end(code if isinstance(code, int) else 0)
    except NetrecError as error:
        if debug:
            raise
        sys.exit(_fail(str(error), error.exit_code, error.details))
    except click.exceptions.Abort:
        sys.exit(_fail("interrupted", 130))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        if debug:
            raise
        sys.exit(_fail(error.format_message(), 2))
    except (_ReaderGoneError, BrokenPipeError):
        # No word, and the code that the shell gives to what SIGPIPE ends: 0 would say that there is no finding.
        _give_up_output()
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        sys.exit(_fail("interrupted", 130))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _give_up_output()
            where = repr(error.filename) if error.filename else "the output"
            sys.exit(_fail(f"cannot write {where} ({error.strerror}): free some space, or write to another disk", 2))
        sys.exit(
            _fail(
                f"unexpected error ({type(error).__name__}: {error}); run again with --debug for the traceback",
                2,
            )
        )
    sys.exit(code if isinstance(code, int) else 0)


def _end(code: int) -> None:
    """End the process here and now after an analysis: what it wrote is written, and taking DuckDB and Python to pieces
    takes as long as a small answer. Elsewhere, and where DuckDB has files to remove, it returns.
    """
    sandbox = sys.modules.get("analyze.sandbox")
    if sandbox and not sandbox.spilled():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _give_up_output() -> None:
    """What standard output did not take is dropped: the interpreter would try again at its end, and complain."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int, details: tuple[str, ...] = ()) -> int:
    from netrec.text import printable

    print(f"netrec: {printable(message)}", file=sys.stderr)
    for line in details:
        print(f"  {printable(line)}", file=sys.stderr)
    return code
