"""cgroup id -> path -> container and unit, with a bounded cache.

A cgroup's id is a file handle of the cgroup2 file system, so its path is one open_by_handle_at(2) away, however many
cgroups there are. On a host whose controllers are still cgroup v1 the containers are not in the v2 tree: there the
process's own /proc/PID/cgroup is read once.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import OrderedDict
from pathlib import Path

from recorder.owner_names import CgroupNames, names_from_cgroup_path

_FILEID_KERNFS = 0xFE
_CACHE = 16384
_NOTHING = CgroupNames(None, None, None)
_libc = ctypes.CDLL(None, use_errno=True)


def cgroup2_mount(mounts: Path = Path("/proc/mounts")) -> str | None:
    """Where cgroup2 is mounted: /sys/fs/cgroup, or below it on a hybrid host; None when nowhere."""
    for line in mounts.read_text().splitlines():
        parts = line.split()
        if len(parts) > 2 and parts[2] == "cgroup2":
            return parts[1]
    return None


class CgroupResolver:
    """Names of the owner's cgroup; `close` releases the mount.

    Attributes: `hybrid`, whether cgroups of version 1 are mounted too.
    """

    def __init__(self) -> None:
        mount = cgroup2_mount()
        self._mount_path = mount or ""
        self._mount = os.open(mount, os.O_RDONLY | os.O_DIRECTORY) if mount else -1
        self.hybrid = any(line.split()[2] == "cgroup" for line in Path("/proc/mounts").read_text().splitlines())
        self._known: OrderedDict[tuple[int, int], CgroupNames] = OrderedDict()

    def names(self, cgroup: int, pid: int) -> CgroupNames:
        """Container id, unit and pod of a cgroup id (v2) or, where that says nothing, of the process."""
        if not cgroup and not pid:
            return _NOTHING
        key = (cgroup, pid if self.hybrid else 0)
        found = self._known.get(key)
        if found is None:
            found = names_from_cgroup_path(self._path(cgroup)) if cgroup else _NOTHING
            if found == _NOTHING and self.hybrid and pid:
                found = self._of_process(pid)
            self._known[key] = found
            if len(self._known) > _CACHE:
                self._known.popitem(last=False)
        return found

    def close(self) -> None:
        if self._mount >= 0:
            os.close(self._mount)
            self._mount = -1

    def _path(self, cgroup: int) -> str:
        """Path below the cgroup2 root; empty when the cgroup is gone."""
        if self._mount < 0:
            return ""
        handle = ctypes.create_string_buffer(struct.pack("<IiQ", 8, _FILEID_KERNFS, cgroup))
        descriptor = _libc.open_by_handle_at(self._mount, handle, os.O_PATH)
        if descriptor < 0:
            return ""
        try:
            return str(Path(f"/proc/self/fd/{descriptor}").readlink()).removeprefix(self._mount_path)
        except OSError:
            return ""
        finally:
            os.close(descriptor)

    def _of_process(self, pid: int) -> CgroupNames:
        try:
            lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return _NOTHING
        for line in lines:
            found = names_from_cgroup_path(line.split(":", 2)[-1])
            if found != _NOTHING:
                return found
        return _NOTHING
