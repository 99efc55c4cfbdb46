"""What a program says about itself: its description, its table, the record that holds a row, and its hooks.

// How long connections wait to be accepted.                     the first comment: what the program is for
// @table accept_latency: One row per accepted connection.       the struct below is the table's row
struct accepted {
    kernel_time time;        // when it was accepted             the first kernel_time orders the table
    u64 delay_ns;            // ns: how long it waited           unit: meaning
    u8 state;                // @enum tcp_ca_state: its state    numbers become the kernel's names
    u32 rtt_us;              // @scale 1/8 us: round-trip time   numbers are scaled, to float64
    char process_name[16];   // the process's name               text up to its first zero byte
    u32 _unused;             // fields that begin with _ are no columns
};

SEC("tp/syscalls/sys_exit_accept4")
int accepted(struct trace_event_raw_sys_exit *ctx) { ... emit(&row); ... }
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pyarrow as pa

from netrec.trace import fields as f
from netrec.trace import tables
from recorder.sources.program.source_text import SourceText

_MARK = re.compile(r"^@table\s+(?P<name>[^\s:]+)\s*:\s*(?P<meaning>.+)", re.MULTILINE | re.DOTALL)
_STRUCT = re.compile(r"\s*struct\s+(?P<name>\w+)\s*\{(?P<body>[^{}]*)\}\s*;")
_FIELD = re.compile(r"^(?P<type>[A-Za-z_][\w ]*?)\s+(?P<name>[A-Za-z_]\w*)\s*(?:\[\s*(?P<count>\w+)\s*\])?$")
_TAG = re.compile(r"^@(?P<tag>\w+)\s+(?P<value>[^\s:]+)\s*(?P<rest>.*)$", re.DOTALL)
_UNIT = re.compile(r"^(?P<unit>[A-Za-z%][\w/%^-]{0,19})\s*:\s*(?P<meaning>.+)$", re.DOTALL)
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_SECTION = re.compile(r'SEC\s*\(\s*"(?P<section>[^"]*)"\s*\)')
_FUNCTION = re.compile(r"\s*(?:__attribute__\s*\(\(.*?\)\)\s*)?int\s+(?P<name>\w+)\s*\((?P<parameters>[^()]*)\)\s*\{")
# C type -> (NumPy format, alignment, column type)
_INTEGERS: dict[str, tuple[str, int, pa.DataType]] = {
    "u8": ("u1", 1, f.INT16),
    "s8": ("i1", 1, f.INT16),
    "u16": ("u2", 2, f.INT32),
    "s16": ("i2", 2, f.INT16),
    "u32": ("u4", 4, f.INT64),
    "s32": ("i4", 4, f.INT32),
    "u64": ("u8", 8, f.INT64),
    "s64": ("i8", 8, f.INT64),
    "bool": ("u1", 1, f.BOOL),
    "kernel_time": ("u8", 8, f.TIME),
    "ip_address": ("V16", 8, f.TEXT),
    "__be16": (">u2", 2, f.INT32),
}
_SPELLINGS = {
    "unsigned char": "u8",
    "signed char": "s8",
    "unsigned short": "u16",
    "short": "s16",
    "unsigned int": "u32",
    "unsigned": "u32",
    "int": "s32",
    "pid_t": "s32",
    "unsigned long": "u64",
    "unsigned long long": "u64",
    "long": "s64",
    "long long": "s64",
    "size_t": "u64",
    "_Bool": "bool",
}
_KINDS = "u8 to u64, s8 to s64, bool, kernel_time, ip_address, char[N]"


@dataclass(frozen=True)
class Column:
    """One member of the record: where it is, and the column that it becomes (`field` None: padding)."""

    name: str
    kind: str
    field: f.Field | None
    enumeration: str = ""
    scale: float = 0.0


@dataclass(frozen=True)
class Hook:
    """One function that is attached: `section` as it stands in SEC(), the position of its text."""

    section: str
    function: str
    position: int


@dataclass(frozen=True)
class Annotation:
    """All that a program's text says. `record` is the struct's layout, `struct_end` where its text ends."""

    description: str
    table: tables.Table
    record: np.dtype
    columns: tuple[Column, ...]
    struct: str
    struct_end: int
    hooks: tuple[Hook, ...]

    @property
    def enumerations(self) -> list[str]:
        """The kernel's enums whose names are wanted."""
        return sorted({column.enumeration for column in self.columns if column.enumeration})


@dataclass
class _Layout:
    names: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    size: int = 0
    alignment: int = 1

    def add(self, name: str, format: str, alignment: int) -> None:
        offset = -(-self.size // alignment) * alignment
        self.names.append(name)
        self.formats.append(format)
        self.offsets.append(offset)
        self.size = offset + np.dtype(format).itemsize
        self.alignment = max(self.alignment, alignment)

    def dtype(self) -> np.dtype:
        size = -(-self.size // self.alignment) * self.alignment
        parts = {"names": self.names, "formats": self.formats, "offsets": self.offsets, "itemsize": size}
        return np.dtype(parts)  # type: ignore[call-overload]


def read(source: SourceText) -> Annotation:
    """Read a program's annotations. Raises `ProgramError` that names the file and line of what is wrong."""
    mark, match = _marked(source)
    name, meaning = match["name"], " ".join(match["meaning"].split())
    if not tables.usable_name(name):
        raise source.error(
            mark[0], f"a table cannot be called {name!r}", "make its name of a-z, 0-9 and _; those of netrec are taken"
        )
    struct = _STRUCT.match(source.bare, mark[1])
    if struct is None:
        raise source.error(
            mark[0], "no plain struct follows @table", "put `struct NAME { ... };` under it, without inner structs"
        )
    layout, columns = _fields(source, struct.start("body"), struct["body"])
    found = [column.field for column in columns if column.field is not None]
    time = next((one.name for one in found if one.type == f.TIME), None)
    if time is None:
        raise source.error(
            struct.start("name"),
            f"struct {struct['name']} has no field of type kernel_time",
            "add `kernel_time time;` and set it to bpf_ktime_get_boot_ns()",
        )
    table = tables.Table(name, meaning, (*found, *f.OBSERVER), time, "--program")
    return Annotation(
        _description(source, meaning),
        table,
        layout.dtype(),
        tuple(columns),
        struct["name"],
        struct.end(),
        tuple(_hooks(source)),
    )


def _marked(source: SourceText) -> tuple[tuple[int, int, str], re.Match[str]]:
    found = [(comment, match) for comment in source.comments if (match := _MARK.search(comment[2]))]
    if not found:
        raise source.error_at(
            1, "no struct is marked as the table", "put `// @table NAME: what a row is` above the struct of a row"
        )
    if len(found) > 1:
        raise source.error(found[1][0][0], "a second @table", "write one program per table")
    return found[0]


def _description(source: SourceText, meaning: str) -> str:
    """The first comment of the file, or the table's meaning when that is what the file begins with."""
    first = source.comments[0]
    if source.text[: first[0]].strip() or _MARK.search(first[2]):
        before = first[2].partition("@table")[0].strip() if not source.text[: first[0]].strip() else ""
        return before or meaning
    return first[2]


def _fields(source: SourceText, start: int, body: str) -> tuple[_Layout, list[Column]]:
    layout, columns = _Layout(), []
    position = start
    for part in body.split(";")[:-1]:
        declaration, at = " ".join(part.split()), position + len(part) - len(part.lstrip())
        position += len(part) + 1
        match = _FIELD.match(declaration)
        if match is None:
            raise source.error(at, f"cannot read the field `{declaration}`", "write one field per line: `u64 name;`")
        columns.append(_column(source, at, position, match, layout))
    names = [column.name for column in columns]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise source.error(start, f"two fields are called {name}", "a column has one name")
    return layout, columns


def _column(source: SourceText, at: int, end: int, match: re.Match[str], layout: _Layout) -> Column:
    name, kind = match["name"], _SPELLINGS.get(match["type"], match["type"].removeprefix("__"))
    kind = "__be16" if match["type"] == "__be16" else kind
    if match["count"]:
        return _array(source, at, end, match, layout)
    if kind not in _INTEGERS:
        raise source.error(at, f"a column cannot be of type {match['type']}", f"the types are {_KINDS}")
    format, alignment, column = _INTEGERS[kind]
    layout.add(name, format, alignment)
    if name.startswith("_"):
        return Column(name, kind, None)
    words, tag, value = _comment(source, at, end)
    unit, meaning = _unit(words)
    if tag == "enum":
        return Column(name, kind, _field(source, at, name, f.TEXT, "", meaning or unit), value)
    if tag == "scale":
        try:
            scale = float(Fraction(value))
        except (ValueError, ZeroDivisionError):
            raise source.error(at, f"@scale {value} is not a number", "write for example @scale 1/8 us: ...") from None
        return Column(name, kind, _field(source, at, name, f.FLOAT, unit, meaning), "", scale)
    if kind == "kernel_time":
        return Column(name, kind, _field(source, at, name, f.TIME, "UTC", words))
    if kind in ("bool", "ip_address"):
        return Column(name, kind, _field(source, at, name, column, "", words))
    return Column(name, kind, _field(source, at, name, column, unit, meaning))


def _array(source: SourceText, at: int, end: int, match: re.Match[str], layout: _Layout) -> Column:
    name, text = match["name"], match["count"]
    if not text.isdecimal():
        defined = re.search(rf"^\s*#\s*define\s+{re.escape(text)}\s+(\d+)\s*$", source.code, re.MULTILINE)
        if defined is None:
            raise source.error(at, f"the size {text} of {name} is not a number", "write a number, or #define it as one")
        text = defined[1]
    if match["type"] not in ("char", "u8", "unsigned char") or not 0 < int(text) <= 256:
        raise source.error(at, f"{name} cannot be a column", "arrays are text: char name[1 to 256]")
    layout.add(name, f"S{int(text)}", 1)
    if name.startswith("_"):
        return Column(name, "text", None)
    words, _, _ = _comment(source, at, end)
    return Column(name, "text", _field(source, at, name, f.TEXT, "", words))


def _field(source: SourceText, at: int, name: str, kind: pa.DataType, unit: str, meaning: str) -> f.Field:
    if not _NAME.match(name) or name in {"source", "host", "capture"}:
        why = "every table has a column of that name" if _NAME.match(name) else "columns are made of a-z, 0-9 and _"
        raise source.error(at, f"a field cannot be called {name}: {why}", "give it another name")
    return f.Field(name, kind, unit, meaning)


def _comment(source: SourceText, at: int, end: int) -> tuple[str, str, str]:
    """A field's comment: behind it on its line, or else above it; (words, tag, the tag's value)."""
    line_end = source.text.find("\n", end)
    line_end = len(source.text) if line_end < 0 else line_end
    line_start = source.text.rfind("\n", 0, at) + 1
    words = ""
    for start, stop, text in source.comments:
        if end <= start < line_end and not source.bare[end:start].strip():
            words = text
            break
        if stop <= at and not source.bare[stop:line_start].strip() and source.text.count("\n", stop, at) == 1:
            above = source.text[source.text.rfind("\n", 0, start) + 1 : start]
            words = "" if above.strip() else text
    words = " ".join(words.split())
    tagged = _TAG.match(words)
    if tagged is None:
        return words, "", ""
    if tagged["tag"] not in ("enum", "scale"):
        raise source.error(at, f"@{tagged['tag']} is not known", "the tags of a field are @enum NAME and @scale A/B")
    return tagged["rest"].removeprefix(":").strip(), tagged["tag"], tagged["value"]


def _unit(words: str) -> tuple[str, str]:
    match = _UNIT.match(words)
    return (match["unit"], match["meaning"]) if match else ("", words)


def _hooks(source: SourceText) -> list[Hook]:
    found = []
    for match in _SECTION.finditer(source.code):
        section = match["section"]
        if section in (".maps", "license", "version"):
            continue
        function = _FUNCTION.match(source.bare, match.end())
        if function is None:
            raise source.error(match.start(), f'no function follows SEC("{section}")', "write `int NAME(... *ctx) {`")
        found.append(Hook(section, function["name"], match.start()))
    if not found:
        raise source.error_at(1, "no function has a hook", 'write for example SEC("tp/sched/sched_switch") above one')
    return found
