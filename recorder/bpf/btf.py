"""Struct offsets, sizes and enumerators of the running kernel, from its own BTF.

The format is that of Documentation/bpf/btf.rst: a header, a sequence of types of variable length, and a string
section. Types can only be found by walking, which takes about 90 ms for all of them; the walk goes no further than
what has been asked for so far, and the network's structs come early.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from netrec.errors import CannotRecordError

FIX = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
VMLINUX = Path("/sys/kernel/btf/vmlinux")

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO = 1, 3, 4, 5, 6, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
_TYPEDEF, _HEADER = 8, 12  # the latter: bytes of a type before what is particular to its kind
_MODIFIERS = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_PER_MEMBER = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}


class Btf:
    """The types of a kernel. Raises `CannotRecordError` when the kernel has no BTF or it cannot be read."""

    def __init__(self, path: Path = VMLINUX) -> None:
        try:
            self.data = path.read_bytes()
        except OSError:
            raise CannotRecordError(f"this kernel has no BTF ({path} cannot be read)", FIX) from None
        magic, _, _, header, type_offset, type_length, string_offset, string_length = struct.unpack_from(
            "<HBBIIIII", self.data
        )
        if magic != 0xEB9F:
            raise CannotRecordError(
                f"{path} is not BTF of a little-endian machine", "use the ebpf source on such a host"
            )
        strings = header + string_offset
        self.strings = self.data[strings : strings + string_length]
        self.types: list[tuple[int, int, int, int, bool]] = [(0, 0, 0, 0, False)]
        self.structs: dict[int, int] = {}  # string offset of the name -> type
        self.enums: list[int] = []
        self._at = header + type_offset
        self._end = self._at + type_length

    def _walk(self, count: int = 2048) -> bool:
        """Read so many more types; False when there are none left."""
        unpack, data, types = struct.Struct("<III").unpack_from, self.data, self.types
        fixed, per_member = _FIXED.get, _PER_MEMBER.get
        at, end, last = self._at, self._end, len(types) + count
        if at >= end:
            return False
        while at < end and len(types) < last:
            name, info, size = unpack(data, at)
            kind, members = info >> 24 & 31, info & 0xFFFF
            at += 12
            if kind == _STRUCT and name:
                self.structs.setdefault(name, len(types))
            elif kind in (_ENUM, _ENUM64):
                self.enums.append(len(types))
            types.append((kind, members, size, at, info >> 31 == 1))
            at += fixed(kind, 0) + per_member(kind, 0) * members
        self._at = at
        return True

    def _type(self, index: int) -> tuple[int, int, int, int, bool]:
        while index >= len(self.types) and self._walk():
            pass
        return self.types[index]

    def struct_type(self, name: str) -> int | None:
        """The index of the struct of that name."""
        needle = b"\0" + name.encode() + b"\0"
        found = self.strings.find(needle) + 1
        if not found:
            return None
        # Equal strings are stored once.
        while found not in self.structs:
            if not self._walk():
                return None
        return self.structs[found]

    def offset(self, struct_name: str, field: str) -> int | None:
        """Offset in bytes of a field, also one of an anonymous member; None when there is no such field."""
        index = self.struct_type(struct_name)
        found = self._find(index, field) if index is not None else None
        return None if found is None else found // 8

    def size(self, struct_name: str) -> int | None:
        """Size of a struct in bytes."""
        index = self.struct_type(struct_name)
        return None if index is None else self._type(index)[2]

    def enumerator(self, name: str) -> int | None:
        """Value of an enumerator of any enum."""
        wanted = self.strings.find(b"\0" + name.encode() + b"\0") + 1
        if not wanted:
            return None
        seen = 0
        while seen < len(self.enums) or self._walk():
            for index in self.enums[seen:]:
                kind, count, _, at, _ = self.types[index]
                step = _PER_MEMBER[kind]
                for member in range(count):
                    string, value = struct.unpack_from("<Ii", self.data, at + step * member)
                    if string == wanted:
                        return value
                seen += 1
        return None

    def enumeration(self, name: str) -> dict[int, str]:
        """Value -> name of every enumerator of the enum of that name, or of that with an enumerator of that name (the
        kernel has enums without one); empty when there is no such enum."""
        wanted = self.strings.find(b"\0" + name.encode() + b"\0") + 1
        while self._walk():
            pass
        for index in self.enums:
            kind, count, _, at, signed = self.types[index]
            step = _PER_MEMBER[kind]
            layout = "<Ii" if signed else "<II"
            members = [struct.unpack_from(layout, self.data, at + step * member) for member in range(count)]
            names = [struct.unpack_from("<I", self.data, at - _HEADER)[0], *(string for string, _ in members)]
            if wanted and wanted in names:
                return {value: self._text(string) for string, value in members}
        return {}

    def tracepoint(self, name: str) -> int | None:
        """The type that stands for a tracepoint, the typedef btf_trace_<name>; None when there is none."""
        wanted = self.strings.find(b"\0btf_trace_" + name.encode() + b"\0") + 1
        while self._walk():
            pass
        for index, (kind, _, _, at, _) in enumerate(self.types):
            if kind == _TYPEDEF and wanted and struct.unpack_from("<I", self.data, at - _HEADER)[0] == wanted:
                return index
        return None

    def arguments(self, tracepoint: str) -> int:
        """How many arguments a tracepoint has for raw programs; 0 when there is no such tracepoint."""
        index = self.tracepoint(tracepoint)
        # typedef -> pointer -> prototype, whose first argument is the program's own.
        return self.types[self.types[self.types[index][2]][2]][1] - 1 if index else 0

    def resolve(self, symbol: str) -> int | None:
        """`OFFSET_struct_field`, `SIZE_struct`, `VALUE_enumerator` or `ARGUMENTS_tracepoint` of a program's text.

        None when unknown. Where a struct's name ends and its field's begins is found by trying: both hold underscores.
        """
        kind, _, rest = symbol.partition("_")
        if kind == "VALUE":
            return self.enumerator(rest)
        if kind == "SIZE":
            return self.size(rest)
        if kind == "ARGUMENTS":
            return self.arguments(rest)
        parts = rest.split("_")
        for cut in range(len(parts) - 1, 0, -1):
            found = self.offset("_".join(parts[:cut]), "_".join(parts[cut:]))
            if found is not None:
                return found
        return None

    def kind(self, index: int) -> int:
        """The kind of a type (BTF_KIND_...)."""
        return self._type(index)[0]

    def target(self, index: int) -> int:
        """What a pointer, typedef or qualifier is of."""
        return self._type(index)[2]

    def size_of(self, index: int) -> int:
        """Size in bytes of a number, enum, struct or union."""
        return self._type(index)[2]

    def describe(self, index: int) -> tuple[str, str]:
        """`struct` or `union`, and the name (empty for an anonymous one)."""
        kind, _, _, at, _ = self._type(index)
        name = struct.unpack_from("<I", self.data, at - _HEADER)[0]
        return ("union" if kind == _UNION else "struct"), self._text(name)

    def members(self, index: int) -> Iterator[tuple[str, int, int, int]]:
        """(name, type, offset in bits, bits of a bit field or 0) of each member of a struct or union."""
        kind, count, _, at, bitfields = self._type(index)
        for member in range(count if kind in (_STRUCT, _UNION) else 0):
            name, type_index, offset = struct.unpack_from("<III", self.data, at + 12 * member)
            yield (
                self._text(name),
                type_index,
                offset & 0xFFFFFF if bitfields else offset,
                offset >> 24 if bitfields else 0,
            )

    def array(self, index: int) -> tuple[int, int]:
        """The type of an array's elements, and their number."""
        element, _, count = struct.unpack_from("<III", self.data, self._type(index)[3])
        return element, count

    def integer(self, index: int) -> tuple[int, int]:
        """Size in bytes, and encoding (1 signed, 2 char, 4 bool)."""
        _, _, size, at, _ = self._type(index)
        return size, struct.unpack_from("<I", self.data, at)[0] >> 24 & 15

    def _text(self, at: int) -> str:
        return self.strings[at : self.strings.index(b"\0", at)].decode()

    def _strip(self, index: int) -> int:
        while self._type(index)[0] in _MODIFIERS:
            index = self._type(index)[2]
        return index

    def _find(self, index: int, field: str) -> int | None:
        _, count, _, at, bitfields = self._type(index)
        for member in range(count):
            name, type_index, offset = struct.unpack_from("<III", self.data, at + 12 * member)
            offset = offset & 0xFFFFFF if bitfields else offset
            if name:
                if self._text(name) == field:
                    return offset
                continue
            inner = self._strip(type_index)
            if self._type(inner)[0] in (_STRUCT, _UNION):
                found = self._find(inner, field)
                if found is not None:
                    return offset + found
        return None
