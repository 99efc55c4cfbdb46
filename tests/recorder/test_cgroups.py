from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netrec.errors import CannotRecordError
from netrec.filter import parse
from netrec.filter.bpf import compile_filter
from recorder.cgroups import mount_point, numbers_below, paths, term_bits

ID = "ab" * 32


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A real cgroup with one below it, gone afterwards."""
    folder = mount_point() / f"netrec-test-{os.getpid()}"
    below = folder / f"docker-{ID}.scope"
    below.mkdir(parents=True)
    try:
        yield folder
    finally:
        below.rmdir()
        folder.rmdir()


@pytest.mark.kernel
def test_numbers_are_those_of_the_kernel(cgroup: Path) -> None:
    path = f"/{cgroup.name}"
    below = f"{path}/docker-{ID}.scope"
    found = paths()
    inodes = [folder.stat().st_ino for folder in (cgroup, mount_point() / below[1:])]
    assert [found[inode] for inode in inodes] == [path, below]
    assert found[mount_point().stat().st_ino] == "/"
    assert sorted(numbers_below(path)) == sorted(inodes)
    assert not numbers_below("/no-such-cgroup")


def test_terms_of_each_cgroup() -> None:
    text = "cgroup /system.slice or unit nginx or container abab or cgroup /"
    terms = compile_filter(parse(text)).cgroup_terms
    cgroups = [
        (1, "/system.slice"),
        (2, "/system.slice/nginx.service"),
        (3, f"/docker/{ID}"),
        (4, "/system.slice-not"),
    ]
    assert term_bits(terms, cgroups) == {1: 0b1001, 2: 0b1011, 3: 0b1100, 4: 0b1000}
    assert term_bits(terms[1:3], cgroups) == {2: 0b01, 3: 0b10}


def test_no_cgroup_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("proc /proc proc rw 0 0\n")
    with pytest.raises(CannotRecordError, match="version 2"):
        mount_point(mounts)
    mounts.write_text("cgroup2 /mnt/my\\040cgroups cgroup2 rw 0 0\n")
    assert mount_point(mounts) == Path("/mnt/my cgroups")
