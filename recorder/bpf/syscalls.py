"""The few bpf(2) calls that the recorder itself makes, through ctypes.

The recorder never loads libbcc: it takes over descriptors from the compiler's process and needs only to attach,
iterate and look into maps. Every attachment is a descriptor (a bpf_link), so the kernel removes it when the
process ends, however it ends. Commands and layouts are those of the kernel's uapi/linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from netrec.errors import CannotRecordError
from recorder.bpf import objects
from recorder.bpf.objects import bpf

_MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _LOOKUP_AND_DELETE_BATCH = 1, 2, 3, 25
_RAW_TRACEPOINT_OPEN, _LINK_CREATE, _ENABLE_STATS, _ITER_CREATE = 17, 28, 32, 33
_ATTACH_ITERATOR = 28  # BPF_TRACE_ITER
_MEMBARRIER_NUMBER = {"x86_64": 324, "aarch64": 283, "riscv64": 283, "ppc64le": 365, "s390x": 356}
_MEMBARRIER_GLOBAL = 1
_PATIENCE = 0.05
_libc = ctypes.CDLL(None, use_errno=True)


def _address(array: np.ndarray | ctypes.Array) -> int:
    return array.ctypes.data if isinstance(array, np.ndarray) else ctypes.addressof(array)


def attach_raw_tracepoint(program: int, tracepoint: str, *, typed: bool = False) -> int:
    """Attach a program to a raw tracepoint, `typed`: to the one that it was loaded for; returns the link's descriptor.

    Raises `CannotRecordError`.
    """
    name = ctypes.create_string_buffer(tracepoint.encode())
    try:
        return bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QIxxxx", 0 if typed else ctypes.addressof(name), program))
    except OSError as problem:
        raise CannotRecordError(
            f"cannot attach to the kernel's tracepoint {tracepoint} ({problem.strerror})", "see netrec doctor"
        ) from None


def attach_cgroup(program: int, cgroup: int, attach_type: int) -> int:
    """Attach a program to a cgroup (an open folder) and all below it; returns the link's descriptor.

    A link, because what BPF_PROG_ATTACH attaches stays when the process ends. Raises `CannotRecordError`.
    """
    try:
        return bpf(_LINK_CREATE, struct.pack("<IIII", program, cgroup, attach_type, 0))
    except OSError as problem:
        raise CannotRecordError(
            f"cannot attach to the root of cgroup2 ({problem.strerror})", "record with --protocols tcp"
        ) from None


def link_iterator(program: int, map_descriptor: int | None = None) -> int:
    """Make an iterator's link (over a map's elements when one is given); returns its descriptor."""
    if map_descriptor is None:
        return bpf(_LINK_CREATE, struct.pack("<IIII", program, 0, _ATTACH_ITERATOR, 0))
    information = ctypes.create_string_buffer(struct.pack("<I", map_descriptor), 16)
    return bpf(
        _LINK_CREATE,
        struct.pack("<IIIIQI", program, 0, _ATTACH_ITERATOR, 0, ctypes.addressof(information), 16),
    )


def read_iterator(link: int, chunk: int = 1 << 18) -> bytes:
    """Run an iterator once, in the network namespace of the calling thread; everything that its program wrote."""
    descriptor = bpf(_ITER_CREATE, struct.pack("<II", link, 0))
    parts = []
    try:
        while part := _read(descriptor, chunk):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts)


def _read(descriptor: int, size: int) -> bytes:
    while True:
        try:
            return os.read(descriptor, size)
        except OSError as problem:
            if problem.errno != errno.EAGAIN:  # the kernel gives up its turn after many entries without output
                raise


class PerCpuArray:
    """A map of 64-bit counters, one a processor; read as sums."""

    def __init__(self, descriptor: int, entries: int) -> None:
        self.descriptor, self.entries = descriptor, entries
        self._values = np.zeros(possible_processors(), np.uint64)
        self._key = np.zeros(1, np.uint32)

    def read(self) -> np.ndarray:
        """uint64 array of shape (entries,): each counter summed over the processors."""
        return np.array([self.one(index) for index in range(self.entries)], np.uint64)

    def one(self, index: int) -> int:
        """One counter, summed over the processors."""
        self._key[0] = index
        bpf(_MAP_LOOKUP, struct.pack("<IxxxxQQQ", self.descriptor, _address(self._key), _address(self._values), 0))
        return int(self._values.sum())


def update(descriptor: int, key: np.ndarray, value: np.ndarray) -> None:
    """Set one entry of a map."""
    bpf(_MAP_UPDATE, struct.pack("<IxxxxQQQ", descriptor, _address(key), _address(value), 0))


def look_up(descriptor: int, key: int) -> int:
    """One 64-bit value of an array map."""
    index, value = np.array([key], np.uint32), np.zeros(1, np.uint64)
    bpf(_MAP_LOOKUP, struct.pack("<IxxxxQQQ", descriptor, _address(index), _address(value), 0))
    return int(value[0])


def delete(descriptor: int, key: np.ndarray) -> bool:
    """Delete one entry of a map; False when there is none."""
    try:
        bpf(_MAP_DELETE, struct.pack("<IxxxxQQQ", descriptor, _address(key), 0, 0))
    except OSError as problem:
        if problem.errno == errno.ENOENT:
            return False
        raise
    return True


def take_all(descriptor: int, value_type: np.dtype, entries: int) -> np.ndarray:
    """Take every value out of a hash map with 8-byte keys; each leaves the map exactly once.

    `value_type` is the record's dtype, `entries` the map's capacity. Returns an array of that dtype.
    """
    return take_pairs(descriptor, np.dtype(np.uint64), value_type, entries)[1]


def take_pairs(
    descriptor: int, key_type: np.dtype, value_type: np.dtype, entries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take every key and value out of a hash map: arrays of those dtypes and of one length."""
    batches = list(_take(descriptor, key_type, value_type, entries))
    if len(batches) == 1:
        return batches[0]
    keys, values = [keys for keys, _ in batches], [values for _, values in batches]
    return np.concatenate([np.empty(0, key_type), *keys]), np.concatenate([np.empty(0, value_type), *values])


def _take(
    descriptor: int, key_type: np.dtype, value_type: np.dtype, entries: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    keys, values = np.zeros(entries, key_type), np.zeros(entries, value_type)
    position_in, position_out = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
    first, done = True, False
    while not done:
        # struct { in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags }
        attributes = ctypes.create_string_buffer(
            struct.pack(
                "<QQQQIIQQ",
                0 if first else _address(position_in),
                _address(position_out),
                _address(keys),
                _address(values),
                entries,
                descriptor,
                0,
                0,
            ),
            128,
        )
        try:
            bpf(_LOOKUP_AND_DELETE_BATCH, attributes)
        except OSError as problem:
            if problem.errno != errno.ENOENT:  # ENOENT: this was the last batch
                raise
            done = True
        (count,) = struct.unpack_from("<I", attributes, 32)
        if count:
            yield keys[:count].copy(), values[:count].copy()
        elif not done:
            return
        first = False
        position_in, position_out = position_out, position_in


class Turns:
    """Two maps that take turns: programs count into the one that the number at `place` of the array `control` names.

    `swap` turns the switch and waits until no program can be using the other map any more: it can be emptied then, and
    nothing is counted into an entry that has been read already. `meanwhile` is called while it waits, again and again.
    """

    def __init__(self, control: int, place: int, meanwhile: Callable[[], object]) -> None:
        self._control, self._place, self._turn = control, np.array([place], np.uint32), 0
        self._meanwhile = meanwhile

    def swap(self) -> int:
        """The number (0 or 1) of the map that may be emptied now."""
        last = self._turn
        self._turn ^= 1
        update(self._control, self._place, np.array([self._turn], np.uint64))
        wait_for_programs(self._meanwhile)
        return last


def wait_for_programs(meanwhile: Callable[[], object]) -> None:
    """Return when every program that is running now has ended.

    Mostly that takes some hundredths of a second, on an overloaded host many seconds, in which a ring would overflow:
    `meanwhile` is called every `_PATIENCE` seconds.
    """
    waiting = threading.Thread(target=_wait_for_programs, daemon=True)
    waiting.start()
    while True:
        waiting.join(_PATIENCE)
        if not waiting.is_alive():
            return
        meanwhile()


def _wait_for_programs() -> None:
    """membarrier(2) waits for a grace period of RCU."""
    if _libc.syscall(_MEMBARRIER_NUMBER[os.uname().machine], _MEMBARRIER_GLOBAL, 0, 0):
        time.sleep(0.05)  # not in this kernel: no program takes a thousandth of that


def run_time_ns(program: int) -> int:
    """How long a program has run in all, while the kernel timed its programs (see `keep_run_times`)."""
    return _program_word(program, 192)


def keep_run_times() -> int:
    """Let the kernel time its programs for as long as the returned descriptor is open; needs CAP_SYS_ADMIN.

    Costs two readings of a clock a run, of every program of the host. Raises `OSError`.
    """
    return bpf(_ENABLE_STATS, struct.pack("<I", 0))  # BPF_STATS_RUN_TIME


def recursion_misses(program: int) -> int:
    """How often the kernel skipped this program because it was running already on that processor."""
    return _program_word(program, 208)  # Linux 5.12; 0 in older kernels


def _program_word(program: int, offset: int) -> int:
    """A 64-bit word of struct bpf_prog_info; 0 in a kernel that does not have it."""
    information = objects.information(program)
    return struct.unpack_from("<Q", information, offset)[0] if len(information) >= offset + 8 else 0


def possible_processors() -> int:
    """How many values a per-processor map has (/sys/devices/system/cpu/possible)."""
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1
