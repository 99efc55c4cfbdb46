"""From the settings to programs that are being compiled, or that are only tried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netrec.errors import ProgramError, UsageError
from recorder.bpf.compiler import Build, BuildError
from recorder.settings import SYSTEM_FILE, system_file_readable
from recorder.sources.program import signatures
from recorder.sources.program.program_file import Program, load

# Of a program that is only tried out.
_RING = 1 << 20


def programs(settings: Mapping[str, Any]) -> list[Program]:
    """Every program that was asked for, read and allowed.

    Raises `ProgramError` for one that cannot be used, `UsageError` when none is named.
    """
    names = dict.fromkeys(settings.get("program") or ())
    if not names:
        raise UsageError("source program records with your own programs, and none is named", "add --program FILE")
    if not system_file_readable():
        raise ProgramError(
            f"whether this host loads only signed programs is not known: {SYSTEM_FILE} cannot be read",
            f"chmod a+r {SYSTEM_FILE}",
        )
    found = [load(name) for name in names]
    signers = settings.get("program_signers") or ""
    tables: dict[str, Program] = {}
    for program in found:
        # Before anything is made of its text.
        if signers:
            signatures.require(program, signers)
        table = program.annotation.table.name
        if table in tables:
            both = f"{tables[table].path} and {program.path}"
            raise ProgramError(f"two programs have a table {table}: {both}", "give one of them another @table name")
        tables[table] = program
    return found


def verify(program: Program) -> None:
    """Compile and load it, look for its hooks, and let go of it again; raises `CannotRecordError`."""
    from recorder.sources.program.complaints import explain
    from recorder.sources.program.recorder_source import check_enumerations, check_hooks

    build = Build(program.request(_RING))
    try:
        loaded = build.finish()
    except BuildError as problem:
        raise explain(problem, program.source) from None
    try:
        check_enumerations(program, loaded)
        check_hooks(program)
    finally:
        loaded.close()


def builds(settings: Mapping[str, Any]) -> list[tuple[Program, Build]]:
    """The `programs` that were asked for, with their compile under way; raises what that does."""
    found: list[tuple[Program, Build]] = []
    try:
        for program in programs(settings):
            found.append((program, Build(program.request(int(settings.get("ring_size", 8 << 20))))))
    except BaseException:
        for _, build in found:
            build.cancel()
        raise
    return found
