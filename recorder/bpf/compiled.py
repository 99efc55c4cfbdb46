"""Programs as the compiler left them, and loading them without it.

The code is that of the kernel's instruction set; where it names a map it holds that map's place in the list. So what
was compiled once can be loaded again, in milliseconds and without LLVM.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from recorder.bpf import objects

_INSTRUCTION = struct.Struct("<BBhi")  # operation, registers (source << 4 | destination), offset, immediate
_LOAD_IMMEDIATE_64, _MAP_DESCRIPTOR = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW with BPF_PSEUDO_MAP_FD


@dataclass(frozen=True)
class Program:
    """Instructions of 8 bytes each, and the type in the kernel's BTF that it is attached to or 0."""

    code: bytes
    target: int = 0


@dataclass
class Compiled:
    """Programs by name, the maps that they use, value -> name of the enumerations asked for."""

    programs: dict[str, Program]
    maps: list[objects.MapShape]
    enumerations: dict[str, dict[int, str]] = field(default_factory=dict)

    def load(self, functions: dict[str, tuple[int, int]], maps: list[str]) -> tuple[dict[str, int], dict[str, int]]:
        """Descriptors of the programs (name -> (bpf_prog_type, bpf_attach_type)) and of these maps, by name.

        Raises `OSError`, or `LookupError` for a name that is not there, and leaves nothing open then.
        """
        opened: list[int] = []
        try:
            for shape in self.maps:
                opened.append(objects.create_map(shape))
            places = opened.copy()
            loaded = {}
            for name, (kind, attach_type) in functions.items():
                program, code = self.programs[name], _replace_maps(self.programs[name].code, places.__getitem__)
                loaded[name] = objects.load_program(name, kind, attach_type, program.target, code)
                opened.append(loaded[name])
            named = {shape.name: descriptor for shape, descriptor in zip(self.maps, places, strict=True)}
            wanted = {name: named[name] for name in maps}
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        for descriptor in set(places) - set(wanted.values()):  # the programs hold it
            os.close(descriptor)
        return loaded, wanted

    def as_json(self) -> dict[str, Any]:
        """For `from_json`."""
        return {
            "programs": {
                name: [base64.b64encode(program.code).decode(), program.target]
                for name, program in self.programs.items()
            },
            "maps": [asdict(shape) for shape in self.maps],
            "enumerations": self.enumerations,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Compiled:
        """Raises `ValueError`, `KeyError` or `TypeError` for anything but what `as_json` gave."""
        return cls(
            {name: Program(base64.b64decode(code), target) for name, (code, target) in data["programs"].items()},
            [objects.MapShape(**shape) for shape in data["maps"]],
            {
                name: {int(value): text for value, text in members.items()}
                for name, members in data["enumerations"].items()
            },
        )


def _replace_maps(code: bytes, replacement: Callable[[int], int]) -> bytes:
    """The code with another number for each map that it names."""
    found = bytearray(code)
    for at, (operation, registers, offset, immediate) in enumerate(_INSTRUCTION.iter_unpack(code)):
        if operation == _LOAD_IMMEDIATE_64 and registers >> 4 == _MAP_DESCRIPTOR:
            _INSTRUCTION.pack_into(found, 8 * at, operation, registers, offset, replacement(immediate))
    return bytes(found)


def take_out(programs: dict[str, tuple[bytes, int]], maps: list[int]) -> Compiled | None:
    """What was compiled, from programs that were loaded: name -> (instructions with descriptors of maps, descriptor of
    the loaded program). `maps` are descriptors of maps that are wanted whether a program uses them or not.

    None when the kernel does not tell what a program is attached to (before Linux 6.0).
    """
    found: dict[str, Program] = {}
    places = {descriptor: place for place, descriptor in enumerate(maps)}
    for name, (code, loaded) in programs.items():
        target = objects.attached_type(loaded)
        if target is None:
            return None
        found[name] = Program(_replace_maps(code, lambda one: places.setdefault(one, len(places))), target)
    return Compiled(found, [objects.map_shape(descriptor) for descriptor in places])
