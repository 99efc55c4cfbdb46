"""Who owns a flow: container and unit from the cgroup, also of processes that are gone before anybody looks."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recorder.sources.ebpf.owners import CgroupResolver, cgroup2_mount
from tests.support.ebpf import Recording
from tests.support.namespaces import Network, wait_until
from tests.support.owner_ends import End

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


def test_a_mixed_workload_of_which_every_owner_is_known(network: Network) -> None:
    """At least 99% of the ends have an owner, in every row, and nobody is called the owner of what is another's."""
    space = network.namespace()
    with cgroup(f"netrec-test-{os.getpid()}.slice", f"docker-{CONTAINER}.scope") as path:
        # Opened out here: below `ip netns exec` no cgroup is mounted.
        with (path / "cgroup.procs").open("w") as procs:
            command = (sys.executable, "-m", "tests.support.owners", str(procs.fileno()))
            workload = space.start(*command, pass_fds=(procs.fileno(),))
        told: list[str] = []
        _lines_until(workload.stdout, "ready", told)
        with Recording(protocols=("tcp", "udp"), active_timeout=1.0) as recording:
            print(file=workload.stdin, flush=True)
            _lines_until(workload.stdout, "done", told)
            recording.run(1.5)  # a scan of what is still open
        workload.communicate("end\n", timeout=30)
        assert workload.returncode == 0
    ends: dict[tuple[str, str, int, int], End] = {}
    for end in map(_end, told):  # a port that was let go by a reset may serve a second time
        pids = ends[end.key].pids if end.key in ends else ()
        ends[end.key] = replace(end, pids=(*end.pids, *pids))
    assert len(ends) > 0.99 * len(told) > 4000

    rows = recording.of(space.inode)
    assert {_key(row) for row in rows} == ends.keys()
    wrong = [(ends[_key(row)].case, row["process_source"], row) for row in rows if not _right(ends[_key(row)], row)]
    assert wrong == []
    unknown = {_key(row) for row in rows if row["process_pid"] is None}
    assert len(unknown) <= len(ends) / 100, sorted({ends[key].case for key in unknown})


def _lines_until(stream: Any, last: str, told: list[str]) -> None:
    """Take in what the workload says until it says `last`."""
    for line in stream:
        if line.strip() == last:
            return
        told.append(line)
    raise AssertionError(f"the workload ended before it said {last}")


def _end(line: str) -> End:
    said = json.loads(line)
    return End(**said | {"pids": tuple(said["pids"])})


def _key(row: dict[str, Any]) -> tuple[str, str, int, int]:
    return row["transport"], row["role"], row["client_port"], row["server_port"]


def _right(end: End, row: dict[str, Any]) -> bool:
    """Whether nothing that a row says of its owner is another's."""
    if row["process_pid"] is None:
        return row["process_source"] == "unknown" and row["process_name"] is None
    named = (row["process_pid"] in end.pids, row["process_uid"], row["container_id"])
    return named == (True, end.uid, CONTAINER if end.contained else None)
