"""Maps and programs as the kernel holds them: making, loading and asking after them by bpf(2), through ctypes.

Imports nothing heavy: the compiler's process needs it too. Commands and layouts are those of the kernel's
uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass

from netrec.errors import CannotRecordError

_SYSCALL_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE, _PROGRAM_LOAD, _OBJ_GET_INFO = 0, 5, 15
_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes | ctypes.Array) -> int:
    """One bpf(2) call; raises `OSError`."""
    buffer = attributes if isinstance(attributes, ctypes.Array) else ctypes.create_string_buffer(attributes, 128)
    number = _SYSCALL_NUMBER.get(os.uname().machine)
    if number is None:
        raise CannotRecordError(f"eBPF on {os.uname().machine} is not supported", "use another source")
    result = _libc.syscall(number, command, buffer, len(buffer))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


@dataclass(frozen=True)
class MapShape:
    """A map's name and enum bpf_map_type, the sizes of its keys and values in bytes, entries, flags."""

    name: str
    kind: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int


def create_map(shape: MapShape) -> int:
    """Make a map; returns its descriptor. Raises `OSError`."""
    sizes = (shape.kind, shape.key_bytes, shape.value_bytes, shape.entries, shape.flags)
    return bpf(_MAP_CREATE, struct.pack("<5I8x16s", *sizes, _object_name(shape.name)))


def map_shape(descriptor: int) -> MapShape:
    """What the kernel says of a map."""
    kind, _, key_bytes, value_bytes, entries, flags, name = struct.unpack_from("<6I16s", information(descriptor))
    return MapShape(name.rstrip(b"\0").decode(), kind, key_bytes, value_bytes, entries, flags)


def load_program(name: str, kind: int, attach_type: int, target: int, code: bytes) -> int:
    """Load a program of type `kind` (enum bpf_prog_type); returns its descriptor. Raises `OSError`.

    `attach_type` is the enum bpf_attach_type that it is checked for, `target` the type in the kernel's BTF that it is
    attached to or 0, `code` the instructions of 8 bytes.
    """
    instructions, license = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"GPL")
    where = (len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license))
    attributes = struct.pack("<IIQQ24x16sII36xI", kind, *where, _object_name(name), 0, attach_type, target)
    return bpf(_PROGRAM_LOAD, attributes)


def attached_type(program: int) -> int | None:
    """The type in the kernel's BTF that a program was loaded for, 0 when for none; None before Linux 6.0."""
    told = information(program)
    return struct.unpack_from("<I", told, 224)[0] if len(told) >= 228 else None


def _object_name(name: str) -> bytes:
    return name.encode()[:15]


def information(descriptor: int) -> bytes:
    """struct bpf_map_info or bpf_prog_info of a descriptor, as much of it as this kernel knows."""
    information = ctypes.create_string_buffer(256)
    attributes = ctypes.create_string_buffer(
        struct.pack("<IIQ", descriptor, len(information), ctypes.addressof(information)), 128
    )
    bpf(_OBJ_GET_INFO, attributes)
    return information.raw[: struct.unpack_from("<I", attributes, 4)[0]]
