"""What the compiler and the verifier said about a program -> one sentence, and the author's own lines.

Since Linux 6.8 the verifier names file and line before the instructions that come from it (`; ... @ my.bpf.c:14`), from
the line information that bcc hands to the kernel. An older verifier gives its reason without the line.
"""

from __future__ import annotations

import re

from netrec.errors import ProgramError
from recorder.bpf.compiler import BuildError
from recorder.sources.program.source_text import SourceText

_DIAGNOSTIC = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?:fatal )?error: (?P<message>.+)$", re.M)
_UNDECLARED = re.compile(
    r"incomplete type|incomplete definition|has no member named|undeclared identifier|unknown type"
)
_PLACE = re.compile(r"^; .*@ (?P<file>[^:\n]+):(?P<line>\d+)$")
_INSTRUCTION = re.compile(r"^\d+: \([0-9a-f]{2}\) ")
_NOISE = re.compile(
    r"^(\d+: |;|from \d+ to \d+|processed \d+ insns|HINT:|bpf: |R\d+(_w)?=|caller|callee|frame\d+|verification time"
    r"|stack depth|arg#\d+ |reg type unsupported|.* safe$|propagating|last_idx|mark_precise|regs=|parent |\s*$)"
)
_SHOWN = 5
# Of these neither tells the line.
_LIMITS = (
    (r"BPF stack limit of 512 bytes", "it uses more than 512 bytes of stack", "keep large structs in a map"),
    (r"bpf: Argument list too long\. Program", "the kernel's verifier gives up after a million instructions",
     "give every loop a small constant bound: `for (int i = 0; i < 16; i++)`"),
)  # fmt: skip
# The verifier's words -> what they mean to who wrote the C. The first that is found counts.
_MEANINGS = (
    (r"invalid mem access '(\w*map_value_or_null|\w+_or_null)'", "a pointer that may be NULL is followed",
     "test it first: `if (!pointer) return 0;`"),
    (r"R\d+ invalid mem access 'scalar'|R\d+ invalid mem access 'inv'", "a number is followed as if it were a pointer",
     "kernel memory is read with BPF_CORE_READ(pointer, field)"),
    (r"invalid mem access", "memory is read that the program may not follow directly",
     "kernel memory is read with BPF_CORE_READ(pointer, field)"),
    (r"invalid indirect read from stack|invalid read from stack|uninitialized", "memory is read that was never written",
     "initialise it: `struct row row = {};`, with every byte of padding"),
    (r"!read_ok", "a variable is read that was never set", "give it a value first"),
    (r"invalid access to map value|invalid access to memory", "memory is read beyond its end", "check the index first"),
    (r"invalid variable-offset|unbounded|min value is negative|makes \w+ pointer be out of bounds"
     r"|(?:math|variable) .* is not allowed",
     "an index or size has no bounds that the verifier can see", "limit it: `if (size > sizeof(buffer)) return 0;`"),
    (r"invalid bpf_context access", "a member of the context is read that this kind of program may not read",
     "see the fields of this hook in the kernel's documentation"),
    (r"invalid stack|stack.*(?:too large|exceeds)|combined stack size", "it uses more than 512 bytes of stack",
     "keep large structs in a map"),
    (r"back-edge|infinite loop|too (?:large|complex)|program is too large|jump out of range|sequence of \d+ jumps",
     "a loop does not end as far as the verifier can see", "give it a constant bound: `for (int i = 0; i < 16; i++)`"),
    (r"unknown func|cannot use helper|helper call is not allowed|program of this type cannot use helper|cannot call",
     "a helper is called that this kind of program may not call", "see bpf-helpers(7)"),
    (r"Unreleased reference|reference leak", "something is taken and not given back", "release it on every path"),
    (r"unreachable insn", "a part of it can never run", "remove it"),
    (r"At program exit .* should have been|R0 .* has value", "it returns a number that this hook does not take",
     "return 0"),
    (r"R\d+ type=\S+ expected=", "a helper is given another kind of value than it takes", "see bpf-helpers(7)"),
    (r"pointer arithmetic|pointer comparison", "a calculation with a pointer is not allowed", "read it into a number"),
)  # fmt: skip


def explain(problem: BuildError, source: SourceText) -> ProgramError:
    """The error to show; what has nothing to do with the program's text keeps its own words."""
    for pattern, sentence, hint in _LIMITS:
        if re.search(pattern, problem.output):
            return ProgramError(f"{source.name}: {sentence}", hint)
    found = _compiler(problem.output, source)
    if found is None and "Failed to load" in problem.message:
        found = _verifier(problem.output, source)
    return found or ProgramError(f"{source.name}: {problem.message}", problem.hint)


def _compiler(output: str, source: SourceText) -> ProgramError | None:
    diagnostics = list(_DIAGNOSTIC.finditer(output))
    if not diagnostics:
        return None
    lines: list[str] = []
    for match in diagnostics[:_SHOWN]:
        if match["file"] == source.name:
            lines += [f"{source.name}:{match['line']}:{match['column']}: {match['message']}"]
            lines += source.quote(int(match["line"]))
        else:
            lines += [match["message"]]
    if len(diagnostics) > _SHOWN:
        lines.append(f"and {len(diagnostics) - _SHOWN} more errors")
    first = diagnostics[0]
    where = f"{source.name}:{first['line']}" if first["file"] == source.name else source.name
    hint = "correct it"
    if _UNDECLARED.search(first["message"]):
        hint = (
            "declare it, or check its name: bpftool btf dump file /sys/kernel/btf/vmlinux format c shows the kernel's"
        )
    return ProgramError(f"{where}: it does not compile: {first['message']}", hint, lines=tuple(lines))


def _verifier(output: str, source: SourceText) -> ProgramError | None:
    """The last words before the end of the log are the reason, the last place before them is where."""
    reason, line, instruction = "", 0, ""
    for text in output.splitlines():
        place = _PLACE.match(text)
        if place and place["file"] == source.name and int(place["line"]):
            line = int(place["line"])
        if _INSTRUCTION.match(text):
            instruction = text
        elif not _NOISE.match(text):
            reason = text.strip()
    if not reason and not instruction:
        return None
    where = f"{source.name}:{line}" if line else source.name
    for pattern, meaning, hint in _MEANINGS:
        if re.search(pattern, reason):
            said = f"{meaning} (the kernel's verifier: {reason})"
            return ProgramError(f"{where}: {said}", hint, lines=source.quote(line))
    return ProgramError(
        f"{where}: the kernel's verifier refuses it: {reason or instruction}",
        "see docs/programs.md",
        lines=source.quote(line),
    )
