"""Who owns a flow: container and unit from the cgroup, also of processes that are gone before anybody looks."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from recorder.sources.ebpf.owners import CgroupResolver, cgroup2_mount
from tests.support.ebpf import Recording
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel
CONTAINER = "0123456789abcdef" * 4


@contextlib.contextmanager
def cgroup(*names: str) -> Iterator[Path]:
    """A cgroup of the test's own below the cgroup2 root, removed afterwards."""
    mount = cgroup2_mount()
    assert mount is not None
    made: list[Path] = []
    path = Path(mount)
    try:
        for name in names:
            path = path / name
            path.mkdir()
            made.append(path)
        yield path
    finally:
        for one in reversed(made):
            wait_until(lambda one=one: _removed(one), f"{one} is empty")


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def test_the_container_of_a_process_that_has_long_gone(network: Network) -> None:
    space = network.namespace()
    with cgroup(f"netrec-test-{os.getpid()}.slice", f"docker-{CONTAINER}.scope") as path:
        script = (
            "import socket; input(); s = socket.socket(); s.settimeout(5)\n"
            "try: s.connect(('127.0.0.1', 9))\nexcept OSError: pass\n"
        )
        with Recording() as recording:
            process = space.start(sys.executable, "-c", script)
            (path / "cgroup.procs").write_text(str(process.pid))
            process.communicate("go\n", timeout=30)
            recording.until(lambda: recording.of(space.inode))
        (row,) = recording.of(space.inode)
        assert row["cgroup_id"] == path.stat().st_ino
        assert row["container_id"] == CONTAINER


def test_a_cgroup_that_does_not_exist_has_no_names() -> None:
    resolver = CgroupResolver()
    try:
        names = resolver.names(2**40 + 7, 0)
        assert (names.container_id, names.unit) == (None, None)
    finally:
        resolver.close()
