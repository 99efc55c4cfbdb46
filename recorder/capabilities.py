"""The capabilities of this process (capabilities(7)): which it has, and giving up all but some, for good.

Capabilities belong to threads. `keep_only` changes the calling thread, and with it every thread and process that it
starts from then on. Threads that are there already, such as those of allocators and libraries, keep what they have
(there is no way to reach into them): it names them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from netrec.errors import CannotRecordError

# Bit -> name, from include/uapi/linux/capability.h.
NAMES = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
]
_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP, _PR_CAPBSET_READ, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 24, 23, 38, 47
_CLEAR_ALL = 4
_libc = ctypes.CDLL(None, use_errno=True)


def effective(thread: Path = Path("/proc/thread-self")) -> frozenset[str]:
    """The names (`net_admin`) of the capabilities that a thread can use; bits newer than this module are left out."""
    return _names(int(_status(thread)["CapEff"], 16))


def keep_only(names: Iterable[str]) -> list[str]:
    """Give up every capability but these, also for programs that are started later; there is no way back.

    A name that this process does not have anyway is passed over. Returns the names of the threads of this process that
    were started before and still have more. Raises `CannotRecordError` when the kernel refuses.
    """
    kept = frozenset(names) & effective()
    unknown = frozenset(names) - frozenset(NAMES)
    if unknown:
        raise ValueError(f"no capabilities: {', '.join(sorted(unknown))}")
    if "setpcap" in effective():
        for bit, name in enumerate(NAMES):
            if name not in kept and _libc.prctl(_PR_CAPBSET_READ, bit, 0, 0, 0) == 1:
                _check(_libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0))
    # Without this a program with capabilities of its own, or with another user's, could bring them back.
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0))
    bits = sum(1 << NAMES.index(name) for name in kept)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0))
    halves = [(bits >> shift) & 0xFFFFFFFF for shift in (0, 32)]
    # struct __user_cap_data_struct twice: effective, permitted, inheritable.
    data = ctypes.create_string_buffer(b"".join(struct.pack("=III", half, half, 0) for half in halves))
    _check(_libc.capset(header, data))
    richer = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            if effective(thread) - kept:
                richer.append((thread / "comm").read_text().strip())
    return sorted(richer)


def _names(bits: int) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1)


def _status(thread: Path) -> dict[str, str]:
    lines = (thread / "status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise CannotRecordError(f"capabilities cannot be given up ({os.strerror(code)})", "see man 7 capabilities")
