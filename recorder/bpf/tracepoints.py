"""Attaching programs to tracepoints with their records (`tp/sched/sched_switch`), through perf_event_open(2)."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from netrec.errors import CannotRecordError

_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on every machine
_FSCONFIG_CREATE, _CLOSE_ON_EXEC = 6, 8  # FSCONFIG_CMD_CREATE; the other is PERF_FLAG_FD_CLOEXEC
_SET_PROGRAM, _ENABLE = 0x40042408, 0x2400  # PERF_EVENT_IOC_SET_BPF, PERF_EVENT_IOC_ENABLE
_TYPE_TRACEPOINT, _ATTRIBUTES = 2, 64  # PERF_TYPE_TRACEPOINT, PERF_ATTR_SIZE_VER0
_MOUNTS = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_libc = ctypes.CDLL(None, use_errno=True)


def attach_tracepoint(program: int, target: str) -> int:
    """Attach a program to the tracepoint `category/name`; returns a descriptor that detaches it when it is closed.

    Raises `CannotRecordError` when there is no such tracepoint or it may not be used.
    """
    number = number_of(target)
    attributes = ctypes.create_string_buffer(struct.pack("<IIQ", _TYPE_TRACEPOINT, _ATTRIBUTES, number), _ATTRIBUTES)
    # A program hangs on the tracepoint itself: one event, on any processor, is enough.
    event = _libc.syscall(_PERF_EVENT_OPEN[os.uname().machine], attributes, -1, 0, -1, _CLOSE_ON_EXEC)
    if event < 0:
        raise _refused(target)
    if _libc.ioctl(event, _SET_PROGRAM, program) or _libc.ioctl(event, _ENABLE, 0):
        error = _refused(target)
        os.close(event)
        raise error
    return event


def _refused(target: str) -> CannotRecordError:
    reason = os.strerror(ctypes.get_errno())
    return CannotRecordError(
        f"cannot attach to the kernel's tracepoint {target} ({reason})", "it needs root, or CAP_BPF and CAP_PERFMON"
    )


def number_of(target: str) -> int:
    """The number of a tracepoint `category/name`, from tracefs; raises `CannotRecordError` when there is none."""
    for mount in _MOUNTS:
        if (mount / "events").is_dir():
            return _read(os.open(mount, os.O_PATH), target)
    return _read(_own_tracefs(), target)


def _own_tracefs() -> int:
    """A tracefs that is mounted nowhere: a descriptor of its root, and nothing is put in place on this host."""
    context = _libc.syscall(_FSOPEN, b"tracefs", 1)
    if context >= 0:
        try:
            if _libc.syscall(_FSCONFIG, context, _FSCONFIG_CREATE, None, None, 0) == 0:
                root = _libc.syscall(_FSMOUNT, context, 1, 0)
                if root >= 0:
                    return root
        finally:
            os.close(context)
    raise CannotRecordError(
        f"the kernel's list of tracepoints is not mounted ({os.strerror(ctypes.get_errno())})",
        "mount -t tracefs tracefs /sys/kernel/tracing",
    )


def _read(root: int, target: str) -> int:
    """Closes `root`."""
    try:
        descriptor = os.open(f"events/{target}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root)
    except FileNotFoundError:
        raise CannotRecordError(f"this kernel has no tracepoint {target}", "ls /sys/kernel/tracing/events") from None
    except OSError as problem:
        raise CannotRecordError(
            f"the tracepoint {target} cannot be looked up ({problem.strerror})", "it needs root"
        ) from None
    finally:
        os.close(root)
    with os.fdopen(descriptor) as file:
        return int(file.read())
