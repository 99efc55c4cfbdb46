"""A stub "kernel source" for bcc: the few files that its own preamble includes.

With it no linux-headers package is needed (there may be none for the running kernel), and a compile takes 0.2 s
because no kernel header is parsed. The programs take every struct offset from BTF instead.
"""

from __future__ import annotations

from pathlib import Path

_KCONFIG = """#define CONFIG_BPF_SYSCALL 1
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
typedef signed char s8; typedef short s16; typedef int s32; typedef long long s64; typedef _Bool bool;
typedef unsigned long size_t; typedef unsigned long uintptr_t;
#define NULL ((void *)0)
struct pt_regs { unsigned long word[64]; };
"""
_VERSION = """#define KERNEL_VERSION(a,b,c) (((a)<<16)+((b)<<8)+(c))
#define LINUX_VERSION_CODE KERNEL_VERSION(6,1,0)
"""
_TYPES = """#ifndef NETREC_LINUX_TYPES_H
#define NETREC_LINUX_TYPES_H
typedef unsigned char __u8; typedef unsigned short __u16; typedef unsigned int __u32; typedef unsigned long long __u64;
typedef signed char __s8; typedef short __s16; typedef int __s32; typedef long long __s64;
typedef __u16 __le16, __be16, __sum16; typedef __u32 __le32, __be32, __wsum; typedef __u64 __le64, __be64;
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#endif
"""
STUBS = {
    "linux/types.h": _TYPES,
    "linux/bpf_common.h": "\n",
    "linux/kconfig.h": _KCONFIG,
    "linux/version.h": _VERSION,
    "linux/log2.h": "\n",
    "uapi/linux/bpf.h": "\n",
    "uapi/linux/if_packet.h": "\n",
    "asm/page.h": "#define PAGE_SIZE 4096\n",
}


def write_stub_headers(folder: Path) -> None:
    """Write the stub headers below `folder`/include; point BCC_KERNEL_SOURCE at `folder`."""
    for name, text in STUBS.items():
        path = folder / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
