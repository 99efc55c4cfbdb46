"""A program as its author knows it, in the words of libbpf -> the text that bcc compiles, line for line.

    #include <bpf/bpf_helpers.h>           gone: what it would bring is in netrec.h; no other file is read
    SEC("tp/a/b") int f(... *ctx) {        a function that a wrapper calls; at a cgroup the wrapper always lets pass
    struct { __uint(...); } m SEC(".maps") BPF_TABLE(...)
    bpf_map_lookup_elem(&m, &key)          m.lookup(&key)

bcc puts lines of its own into functions, so that a `#line` follows every opening of a body: the compiler's and the
verifier's places are those of the author's file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recorder.sources.program.annotation import Annotation
from recorder.sources.program.hooks import Attachment
from recorder.sources.program.source_text import SourceText

HEADER = Path(__file__).parent / "netrec.h"
RING, COUNTS = "netrec_rows", "netrec_counts"
COUNT_SEEN, COUNT_LOST = 0, 1
_DIRECTIVE = re.compile(r"^[ \t]*(?:#|%:|\?\?=)[ \t]*(?P<word>\w*)(?P<rest>(?:[^\n\\]|\\.|\\\n)*)", re.MULTILINE)
_HARMLESS = {"define", "undef", "if", "ifdef", "ifndef", "elif", "else", "endif", "error", "pragma", ""}
_INCLUDE = re.compile(r'^\s*[<"](vmlinux\.h|netrec\.h|bpf/bpf_(helpers|core_read|tracing|endian)\.h)[>"]\s*$')
_FROM_FILES = re.compile(r"\.(incbin|include)\b|__has_include|\b_Pragma\b")
_SECTION = re.compile(r'SEC\s*\(\s*"[^"]*"\s*\)')
_LICENSE = re.compile(r'\bchar\s+\w+\s*\[\s*\w*\s*\]\s*SEC\s*\(\s*"(?:license|version)"\s*\)\s*=\s*"[^"]*"\s*;')
_MAP = re.compile(r'struct\s*\{(?P<body>[^{}]*)\}\s*(?P<name>\w+)\s*SEC\s*\(\s*"\.maps"\s*\)\s*;')
_PROPERTY = re.compile(r"__(?P<what>uint|type)\s*\(\s*(?P<key>\w+)\s*,(?P<value>[^()]*(?:\([^()]*\)[^()]*)*)\)")
_CALL = re.compile(r"\bbpf_(?P<what>map_(?:lookup|update|delete)_elem|sk_storage_get)\s*\(\s*&\s*(?P<map>\w+)\s*,")
_METHODS = {"map_lookup_elem": "lookup", "map_delete_elem": "delete", "sk_storage_get": "sk_storage_get"}
_UPDATES = {"BPF_ANY": "update", "0": "update", "BPF_NOEXIST": "insert"}
_TYPES = {
    "BPF_MAP_TYPE_HASH": "hash",
    "BPF_MAP_TYPE_ARRAY": "array",
    "BPF_MAP_TYPE_PERCPU_HASH": "percpu_hash",
    "BPF_MAP_TYPE_PERCPU_ARRAY": "percpu_array",
    "BPF_MAP_TYPE_LRU_HASH": "lru_hash",
    "BPF_MAP_TYPE_LRU_PERCPU_HASH": "lru_percpu_hash",
}


def translate(source: SourceText, annotation: Annotation, attached: tuple[Attachment, ...]) -> str:
    """The whole text for the compiler. Raises `ProgramError` for what it cannot take."""
    _refuse_other_files(source)
    _refuse_variables(source)
    edits = [
        *_directives(source),
        *_sections(source),
        *_maps(source),
        *_calls(source),
        *_bodies(source),
        (annotation.struct_end, annotation.struct_end, _after_struct(source, annotation)),
    ]
    text = _applied(source.code, edits)
    wrappers = "\n".join(_wrapper(one) for one in attached)
    return "\n".join([HEADER.read_text(), f'#line 1 "{_quoted(source.name)}"', text, '#line 1 "netrec"', wrappers, ""])


def _wrapper(one: Attachment) -> str:
    # The context goes through a register that bcc loses sight of: or it would turn some of what is done with it, not
    # all, into reads of kernel memory, and lines and macros would no longer be the author's.
    return f"""
int {one.program}(void *ctx)
{{
    void *same;
    asm volatile("%0 = %1" : "=r"(same) : "r"(ctx));
    {one.function}(same);
    return {one.result};
}}"""


def _applied(text: str, edits: list[tuple[int, int, str]]) -> str:
    """The text with parts replaced; the new parts do not overlap. What is replaced leaves its line ends behind."""
    parts, at = [], 0
    for start, end, new in sorted(edits):
        parts += [text[at:start], new, "\n" * (text.count("\n", start, end) - _line_ends(new))]
        at = end
    return "".join([*parts, text[at:]])


def _line_ends(new: str) -> int:
    # After a #line it does not matter how many there were.
    return 0 if "#line" in new else new.count("\n")


def _quoted(name: str) -> str:
    return re.sub(r'[\\"\n]', "_", name)


def _refuse_other_files(source: SourceText) -> None:
    """What is compiled is this file, and so what is signed: nothing may bring in another."""
    for match in _FROM_FILES.finditer(source.code):
        raise source.error(match.start(), f"{match[0]} is not allowed in a program", "keep the program in one file")
    joined = re.search(r"\\[ \t]*\n[ \t]*(#|%:|\?\?=)|(^|\n)[ \t]*(%:|\?\?=)|(^|\n)[ \t]*(#[ \t]*)?\\\n", source.code)
    if joined:
        raise source.error(joined.start(), "a preprocessor line in disguise", "write directives on one line, with #")


def _refuse_variables(source: SourceText) -> None:
    """Global variables would need a map behind them that bcc does not make: say so before the verifier does."""
    bare = _without_directives(source.bare)
    match = re.search(r"\bstatic\s+(?![^;{]*\()[\w\s*]+\s(\w+)\s*(\[[^\]]*\]\s*)*[=;]", bare)
    if match is None:
        outside, depth = [], 0
        for character in bare:
            depth -= character == "}"
            outside.append(" " if depth and not character.isspace() else character)
            depth += character == "{"
        match = re.search(
            r"(?:^|[;}])\s*(?!struct\s+\w+\s*;|typedef\b|extern\b)(?:[A-Za-z_]\w*[\s*]+)+(\w+)\s*(\[[^\]]*\]\s*)*(?:=[^;]*)?;",
            _LICENSE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), "".join(outside)),
        )
    if match:
        raise source.error(
            match.start(1),
            f"{match[1]} is a global variable, which a program cannot have",
            "keep it in a map of one entry",
        )


def _without_directives(bare: str) -> str:
    return _DIRECTIVE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), bare)


def _directives(source: SourceText) -> list[tuple[int, int, str]]:
    edits = []
    for match in _DIRECTIVE.finditer(source.code):
        if match["word"] == "include":
            if not _INCLUDE.match(match["rest"]):
                hint = "a program is one file; the kernel's structs and netrec.h are there without it"
                raise source.error(match.start(), f"#include {match['rest'].strip()} is not allowed", hint)
            edits.append((match.start(), match.end(), ""))
        elif match["word"] not in _HARMLESS:
            raise source.error(match.start(), f"#{match['word']} is not allowed", "remove it")
    return edits


def _sections(source: SourceText) -> list[tuple[int, int, str]]:
    apart = [match.span() for pattern in (_LICENSE, _MAP) for match in pattern.finditer(source.code)]
    edits = [(*match.span(), "") for match in _LICENSE.finditer(source.code)]
    for match in _SECTION.finditer(source.code):
        if not any(start <= match.start() < end for start, end in apart):
            edits.append((match.start(), match.end(), "static inline"))
    return edits


def _maps(source: SourceText) -> list[tuple[int, int, str]]:
    edits = []
    for match in _MAP.finditer(source.code):
        found = {one["key"]: one["value"].strip() for one in _PROPERTY.finditer(match["body"])}
        kind = found.get("type", "")
        if kind == "BPF_MAP_TYPE_SK_STORAGE" and "value" in found:
            edits.append((*match.span(), f"BPF_SK_STORAGE({match['name']}, {found['value']});"))
            continue
        lacking = [key for key in ("key", "value", "max_entries") if key not in found]
        if kind not in _TYPES:
            known = ", ".join(name.removeprefix("BPF_MAP_TYPE_") for name in (*_TYPES, "BPF_MAP_TYPE_SK_STORAGE"))
            raise source.error(match.start(), f"the map {match['name']} is of no known type", f"known are {known}")
        if lacking:
            hint = "write __uint(max_entries, N), __type(key, TYPE) and __type(value, TYPE)"
            raise source.error(match.start(), f"the map {match['name']} lacks its {lacking[0]}", hint)
        table = f'"{_TYPES[kind]}", {found["key"]}, {found["value"]}, {match["name"]}, {found["max_entries"]}'
        edits.append((*match.span(), f"BPF_TABLE({table});"))
    return edits


def _calls(source: SourceText) -> list[tuple[int, int, str]]:
    edits = []
    for match in _CALL.finditer(source.code):
        if match["what"] != "map_update_elem":
            edits.append((*match.span(), f"{match['map']}.{_METHODS[match['what']]}("))
            continue
        comma, end = _last_argument(source.bare, match.end())
        flags = source.code[comma + 1 : end].strip()
        if flags not in _UPDATES:
            raise source.error(match.start(), f"the flags {flags!r} are not supported", "use BPF_ANY or BPF_NOEXIST")
        edits += [(*match.span(), f"{match['map']}.{_UPDATES[flags]}("), (comma, end, "")]
    return edits


def _last_argument(bare: str, start: int) -> tuple[int, int]:
    """Where the last comma of a call's arguments stands, and where its closing parenthesis does."""
    depth, comma = 0, start
    for at in range(start, len(bare)):
        character = bare[at]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            if not depth:
                return comma, at
            depth -= 1
        elif character == "," and not depth:
            comma = at
    return comma, len(bare)


def _bodies(source: SourceText) -> list[tuple[int, int, str]]:
    edits, depth, at = [], 0, 0
    # A brace of a macro opens nothing here.
    bare = _without_directives(source.bare)
    for match in re.finditer(r"[{}]", bare):
        if match[0] == "{":
            if not depth and bare[at : match.start()].rstrip().endswith(")"):
                edits.append((match.end(), match.end(), f"\n{_place(source, source.line(match.start()))}"))
            depth += 1
        else:
            depth = max(0, depth - 1)
            at = match.end()
    return edits


def _after_struct(source: SourceText, annotation: Annotation) -> str:
    """What can be said only when the struct is known: that its layout is as computed, and how a row is handed over."""
    record, struct = annotation.record, annotation.struct
    checks = [f'_Static_assert(sizeof(struct {struct}) == {record.itemsize}, "the struct has another size");']
    fields: Mapping[str, Any] = record.fields or {}
    checks += [
        f'_Static_assert(__builtin_offsetof(struct {struct}, {name}) == {place[1]}, "{name} is elsewhere");'
        for name, place in fields.items()
    ]
    return f"""
BPF_RINGBUF_OUTPUT({RING}, RING_PAGES);
BPF_TABLE("percpu_array", u32, u64, {COUNTS}, 2);
{" ".join(checks)}
static inline void netrec_count(u32 which)
{{
    u64 *value = {COUNTS}.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}}
static inline void emit(struct {struct} *row)
{{
    netrec_count({COUNT_SEEN});
    if ({RING}.ringbuf_output(row, sizeof(*row), 0))
        netrec_count({COUNT_LOST});
}}
{_place(source, source.line(annotation.struct_end - 1))}
"""


def _place(source: SourceText, line: int) -> str:
    return f'#line {line} "{_quoted(source.name)}"\n'
