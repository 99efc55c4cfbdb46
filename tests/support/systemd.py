"""A systemd of its own to try units with: the real one, in namespaces where it is the first process.

It knows the units that it is given and the targets that these ask for, empty; nothing of this host starts in it. What
it writes to /etc and /var lies over this host's, in memory, and is gone with it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support.namespaces import end_process, wait_until

_HIERARCHY = next(
    Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"
)
_TARGETS = ("basic", "local-fs", "multi-user", "network", "shutdown", "sysinit", "timers", "umount")
_UNITS, _OVER, DEPENDENCIES = "/usr/lib/systemd/system", "/run/over", "/opt/dependencies"


class Systemd:
    """`with Systemd(tree)`: /opt/netrec is that of `tree`, the Debian package's files, and so are the units; `settings`
    are further lines of units' [Service], by unit."""

    def __init__(self, tree: Path, settings: Mapping[str, str] | None = None) -> None:
        self._tree = tree
        self._settings = dict(settings or {})
        self._cgroup = _HIERARCHY / f"netrec-systemd-{os.getpid()}"
        self._process: subprocess.Popen[str] | None = None
        self._first = 0

    def __enter__(self) -> Systemd:
        self._cgroup.mkdir()
        inside = ["set -e", f"echo $$ > {self._cgroup}/cgroup.procs", f"exec unshare --cgroup sh -ec {self._script()}"]
        namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]
        # Without it, systemd would take this host for a machine of its own.
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "container": "netrec-test"}
        self._process = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", "\n".join(inside)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        try:
            wait_until(self._answers, "systemd", timeout=120)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            end_process(self._process, patience=0.0)
        wait_until(self._is_gone, "the end of systemd's processes", timeout=30)

    def path(self, inside: str) -> Path:
        """Where a path of its mount namespace is for others."""
        return Path(f"/proc/{self._first}/root{inside}")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command beside the units; fails the test when it fails and `check`."""
        enter = ["nsenter", f"--target={self._first}", "--mount", "--pid", "--uts", "--ipc", "--cgroup"]
        done = subprocess.run(
            [*enter, "sh", "-c", f"cd /var/lib && exec {shlex.join(command)}"],
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": DEPENDENCIES},
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done

    def property(self, unit: str, name: str) -> str:
        """One of those that `systemctl show` tells."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def _script(self) -> str:
        """What makes the namespaces systemd's, as one word of a shell."""
        tree, site = shlex.quote(str(self._tree)), shlex.quote(sysconfig.get_paths()["purelib"])
        lines = [
            "mount -t proc proc /proc",
            "umount --recursive --lazy /sys/fs/cgroup",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            "mount -t tmpfs tmpfs /opt",
            f"mkdir /opt/netrec {DEPENDENCIES}",
            f"mount --bind {tree}/opt/netrec /opt/netrec",
            f"mount --bind {site} {DEPENDENCIES}",
            "mount -t tmpfs tmpfs /run",
        ]
        for folder in ("etc", "var"):
            over = f"{_OVER}/{folder}"
            lines += [
                f"mkdir -p {over}/upper {over}/work",
                f"mount -t overlay -o lowerdir=/{folder},upperdir={over}/upper,workdir={over}/work overlay /{folder}",
            ]
        lines += [
            "mount -t tmpfs tmpfs /etc/systemd/system",
            "mount -t tmpfs tmpfs /usr/lib/systemd/system-generators",
            f"mkdir {_OVER}/units",
            f"cp {tree}{_UNITS}/netrec* {_OVER}/units",
            f"mount --bind {_OVER}/units {_UNITS}",
            *(f"printf '[Unit]\\n' > {_UNITS}/{name}.target" for name in _TARGETS),
            f"cp -r {tree}/etc/netrec /etc",
            f"printf '[Manager]\\nDefaultEnvironment=PYTHONPATH={DEPENDENCIES}\\n' > /etc/systemd/system.conf",
        ]
        for unit, text in self._settings.items():
            lines += [
                f"mkdir {_UNITS}/{unit}.d",
                f"printf '%s\\n' {shlex.quote('[Service]' + chr(10) + text)} > {_UNITS}/{unit}.d/test.conf",
            ]
        lines.append("exec /lib/systemd/systemd --system --unit=timers.target --show-status=no")
        return shlex.quote("\n".join(lines))

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._process.stdout.read() if self._process.stdout else ""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
            return False
        self._first = int(children[0])
        done = self.run("systemctl", "is-system-running", check=False)
        return done.stdout.strip() in ("running", "degraded")

    def _is_gone(self) -> bool:
        """Takes its cgroups away once no process is left in them."""
        for folder, _, _ in os.walk(self._cgroup, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                return False
        return not self._cgroup.exists()
