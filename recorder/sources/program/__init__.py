"""Users' own eBPF programs: each fills a table of its own (`netrec record --program my.bpf.c`).

program_file.py    finding and reading a program, once
source_text.py     its text: comments apart from code, errors that point into it
annotation.py      what it says about itself: table, columns, units, hooks
hooks.py           SEC("...") -> what is loaded and where it is attached
translation.py     the text as bcc compiles it; netrec.h: what a program may use
complaints.py      what the compiler and the verifier said, in the author's lines
signatures.py      who signed it, and whether this host takes only signed ones
rows.py            records -> rows
recorder_source.py the life cycle
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netrec.errors import CannotRecordError
from recorder.bpf.readiness import can_load
from recorder.source import CaptureContext, Readiness, Setting, Source, SourceSpecification


def can_run(settings: Mapping[str, Any]) -> Readiness:
    """Whether this process may load eBPF programs on this kernel; never raises."""
    return can_load("program")


def create(context: CaptureContext) -> Source:
    """Read the programs, check who signed them, and let the compiler begin.

    Raises `ProgramError` for a program that cannot be used, `CannotRecordError` when none may be loaded here.
    """
    readiness = can_run(context.settings)
    if not readiness.ready:
        raise CannotRecordError(readiness.reason, readiness.fix)
    from recorder.sources.program.build import builds
    from recorder.sources.program.recorder_source import ProgramSource

    return ProgramSource(context, builds(context.settings))


def explain(settings: Mapping[str, Any]) -> str:
    """What would be attached. Where programs may be loaded, each is compiled and verified; raises as `create` does."""
    from recorder.sources.program.build import programs, verify

    lines = []
    for program in programs(settings):
        if can_run(settings).ready:
            verify(program)
        lines.append(f"# program {program.path}: table {program.annotation.table.name}")
        lines += [f"#   {hook.function} at {hook.section}" for hook in program.annotation.hooks]
    return "\n".join(lines)


SOURCE = SourceSpecification(
    name="program",
    summary="users' own eBPF programs (--program), each with a table of its own",
    tables=(),
    first_question="inspect",
    can_run=can_run,
    create=create,
    filters="none",
    explain=explain,
    settings=(
        Setting(
            "program",
            (),
            "Also record with this eBPF program: a file of C, or a name that `netrec programs list` shows.",
            str,
            "FILE",
            True,
        ),
        Setting(
            "program-signers",
            "",
            "Load only programs that a key in this file (allowed_signers, see ssh-keygen) has signed.",
            str,
            "FILE",
            system=True,
        ),
    ),
    implied_by="program",
)
