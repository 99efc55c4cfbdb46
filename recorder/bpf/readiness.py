"""Whether this process may load eBPF programs on this kernel. Cheap to import."""

from __future__ import annotations

import os
from pathlib import Path

from recorder.source import Readiness

_CAP_BPF, _CAP_PERFMON, _CAP_SYS_ADMIN = 39, 38, 21


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def can_load(source: str) -> Readiness:
    """Whether a source of that name can load its programs; never raises."""
    from recorder.bpf.bcc_loader import FIX, bcc_folder
    from recorder.bpf.btf import FIX as BTF_FIX
    from recorder.bpf.btf import VMLINUX

    have = _capabilities()
    if not have >> _CAP_SYS_ADMIN & 1 and not (have >> _CAP_BPF & 1 and have >> _CAP_PERFMON & 1):
        who = "you are not root" if os.geteuid() else "this root lacks CAP_BPF and CAP_PERFMON (a container?)"
        return Readiness(False, f"the {source} source needs root, and {who}", "run it with sudo")
    if not VMLINUX.exists():
        return Readiness(False, f"this kernel has no BTF ({VMLINUX} is missing)", BTF_FIX)
    lockdown = Path("/sys/kernel/security/lockdown")
    if lockdown.exists() and "[confidentiality]" in lockdown.read_text():
        return Readiness(
            False,
            "kernel lockdown is in confidentiality mode, so that eBPF may not read kernel memory",
            "boot with lockdown=integrity",
        )
    if bcc_folder() is None:
        return Readiness(False, "bcc is not installed", f"install it: {FIX}")
    return Readiness(True)
