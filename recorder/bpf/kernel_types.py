"""C definitions of the kernel's structs that a program names, from BTF: no header, the layout of the running kernel.

Only members whose names appear in the program's text are declared, each at its own offset: a struct becomes a union of
its size in which every member stands behind as much padding as it needs. So a program says `sk->__sk_common.skc_family`
as it would with the kernel's own headers, and what it does not mention costs nothing. Members of anonymous structs and
unions are reached directly, as in C.

Enumerators (`TCP_ESTABLISHED`) that the text uses and does not define are declared too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from recorder.bpf.btf import Btf

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM = 1, 2, 3, 4, 5, 6
_ENUM64 = 19
_TRANSPARENT = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
_SIGNED, _BOOL = 1, 4
# What bcc's own copy of the kernel's uapi/linux/bpf.h defines.
_KNOWN_STRUCTS = {
    "__sk_buff", "bpf_raw_tracepoint_args", "bpf_sock", "bpf_sock_ops", "bpf_sock_addr", "bpf_sockopt", "bpf_sysctl",
    "bpf_tcp_sock", "bpf_sock_tuple", "bpf_spin_lock", "bpf_timer", "bpf_perf_event_data", "bpf_perf_event_value",
    "bpf_tunnel_key", "bpf_xfrm_state", "bpf_fib_lookup", "bpf_pidns_info", "bpf_sk_lookup", "bpf_cgroup_dev_ctx",
    "bpf_lpm_trie_key", "bpf_attr", "bpf_prog_info", "bpf_map_info", "bpf_link_info", "bpf_dynptr", "xdp_md",
    "sk_msg_md", "sk_reuseport_md", "btf_ptr", "pt_regs",
}  # fmt: skip
_KNOWN_ENUMERATORS = re.compile(r"^(BPF|BTF|XDP|TCX)_|^SK_(PASS|DROP)$")
_BIT_FIELD_READER = "BPF_CORE_READ_BITFIELD_PROBED"
_COMMENT_OR_TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
_IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b")
_NAMED = re.compile(r"\b(?:struct|union)\s+([A-Za-z_]\w*)")
_DEFINED = re.compile(r"\b(?:struct|union)\s+([A-Za-z_]\w*)\s*\{")
_CONSTANT = re.compile(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b")
_MACRO = re.compile(r"^\s*#\s*define\s+([A-Za-z_]\w*)", re.MULTILINE)


def declarations(btf: Btf, text: str) -> str:
    """C text to be put before `text`: the structs and enumerators that it names and does not define."""
    plain = _COMMENT_OR_TEXT.sub(" ", text)
    types = _Types(btf, set(_IDENTIFIER.findall(plain)))
    wanted = set(_NAMED.findall(plain)) - set(_DEFINED.findall(plain)) - _KNOWN_STRUCTS
    for name in sorted(wanted):
        types.want(name)
    return _enumerators(btf, plain) + types.text()


def _enumerators(btf: Btf, plain: str) -> str:
    declared = set(_MACRO.findall(plain)) | set(re.findall(r"\b([A-Z][A-Z0-9_]*)\s*[,=}]", _enum_bodies(plain)))
    names = sorted(name for name in set(_CONSTANT.findall(plain)) - declared if not _KNOWN_ENUMERATORS.match(name))
    values = ((name, btf.enumerator(name)) for name in names)
    found = [f"{name} = {value}" for name, value in values if value is not None]
    return f"enum {{ {', '.join(found)} }};\n" if found else ""


def _enum_bodies(plain: str) -> str:
    return " ".join(re.findall(r"\benum\s*\w*\s*\{([^}]*\})", plain))


class _Types:
    """Collects definitions, each after those that it holds by value."""

    def __init__(self, btf: Btf, identifiers: set[str]) -> None:
        self._btf, self._identifiers = btf, identifiers
        self._forward: list[str] = []
        self._bodies: list[str] = []
        self._done: set[int] = set()
        self._waiting: list[int] = []
        self._pads = 0

    def want(self, name: str) -> None:
        """A struct that the text names; one that the kernel does not have stays undefined: the compiler will say so."""
        index = self._btf.struct_type(name)
        if index is not None:
            self._waiting.append(index)

    def text(self) -> str:
        while self._waiting:
            self._define(self._waiting.pop())
        return "\n".join([*self._forward, *self._bodies, ""])

    def _define(self, index: int) -> None:
        if index in self._done:
            return
        self._done.add(index)
        keyword, name = self._btf.describe(index)
        body = self._body(index)  # what it holds by value comes first
        self._forward.append(f"{keyword} {name};")
        self._bodies.append(f"{keyword} {name} {{ {body} }};")

    def _body(self, index: int) -> str:
        size = self._btf.size_of(index)
        members = [
            self._member(kind, offset, name, bits)
            for name, kind, offset, bits in self._members(index, 0)
            if name in self._identifiers
        ]
        # An anonymous union inside: the outer keyword is the kernel's, so that the tag is what the text says.
        return "union { " + " ".join([self._pad(size) if size else "", *members]) + " };"

    def _member(self, index: int, bit_offset: int, name: str, bits: int) -> str:
        if bits:
            return self._bit_field(bit_offset // 32 * 4, bit_offset % 32, name, bits)
        offset, declaration = bit_offset // 8, self._declare(index, name)
        if not offset:
            return f"struct {{ {declaration}; }};"
        # Only where the kernel itself packs: the compiler reads a packed member byte by byte.
        packed = "__attribute__((packed))" if offset % self._alignment(index) else ""
        return f"struct {{ {self._pad(offset)} {declaration}; }} {packed};"

    def _pad(self, size: int) -> str:
        self._pads += 1  # members of anonymous structs share one scope
        return f"char __pad{self._pads}[{size}];"

    def _bit_field(self, unit: int, within: int, name: str, bits: int) -> str:
        """The field, and what a macro needs to read it: its word, and (as sizes) its first bit and its width."""
        pad = f"{self._pad(unit)} " if unit else ""
        skip = f"u32 : {within}; " if within else ""
        found = f"struct {{ {pad}{skip}u32 {name} : {bits}; }};"
        if _BIT_FIELD_READER in self._identifiers:
            again = f"{self._pad(unit)} " if unit else ""
            found += f" struct {{ {again}u32 {name}__word; }};"
            found += f" char (*{name}__first)[{within + 1}]; char (*{name}__width)[{bits}];"
        return found

    def _alignment(self, index: int) -> int:
        index = self._strip(index)
        kind = self._btf.kind(index)
        if kind == _ARRAY:
            return self._alignment(self._btf.array(index)[0])
        if kind in (_STRUCT, _UNION):
            return max((self._alignment(member[1]) for member in self._btf.members(index)), default=1)
        return 8 if kind == _PTR else max(1, min(self._btf.size_of(index), 8))

    def _members(self, index: int, base: int) -> Iterator[tuple[str, int, int, int]]:
        """(name, type, offset in bits, bits of a bit field or 0), those of anonymous members among them."""
        for name, kind, offset, bits in self._btf.members(index):
            if name:
                yield name, kind, base + offset, bits
            else:
                yield from self._members(self._strip(kind), base + offset)

    def _strip(self, index: int) -> int:
        while self._btf.kind(index) in _TRANSPARENT:
            index = self._btf.target(index)
        return index

    def _declare(self, index: int, name: str) -> str:
        """A declaration of `name` as that type."""
        index = self._strip(index)
        kind = self._btf.kind(index)
        if kind == _INT:
            return f"{self._integer(index)} {name}"
        if kind in (_ENUM, _ENUM64):
            return f"{'u64' if self._btf.size_of(index) == 8 else 'u32'} {name}"
        if kind == _ARRAY:
            element, count = self._btf.array(index)
            return self._declare(element, f"{name}[{count}]")
        if kind in (_STRUCT, _UNION):
            keyword, own = self._btf.describe(index)
            if not own:
                return f"{keyword} {{ {self._body(index)} }} {name}"
            self._define(index)
            return f"{keyword} {own} {name}"
        if kind == _PTR:
            return self._pointer(self._strip(self._btf.target(index)), name)
        return f"char {name}[{self._btf.size_of(index)}]"

    def _pointer(self, target: int, name: str) -> str:
        kind = self._btf.kind(target)
        if kind in (_STRUCT, _UNION):
            keyword, own = self._btf.describe(target)
            if own and any(member[0] in self._identifiers for member in self._members(target, 0)):
                self._waiting.append(target)
                self._forward.append(f"{keyword} {own};")
                return f"{keyword} {own} *{name}"
        if kind == _INT:
            return f"{self._integer(target)} *{name}"
        if kind == _PTR:
            return self._pointer(self._strip(self._btf.target(target)), f"*{name}")
        return f"void *{name}"

    def _integer(self, index: int) -> str:
        size, encoding = self._btf.integer(index)
        if encoding & _BOOL:
            return "bool"
        if size > 8:
            return "unsigned __int128"
        if self._btf.describe(index)[1] == "char":
            return "char"
        return f"{'s' if encoding & _SIGNED else 'u'}{size * 8}"
