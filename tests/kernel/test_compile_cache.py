"""What was compiled once is loaded again without the compiler, and nothing else is."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.bpf import compile_cache, syscalls
from recorder.bpf.compiled import Compiled, Program
from recorder.bpf.compiler import RAW_TRACEPOINT, Build, Request
from recorder.sources.ebpf import programs

pytestmark = pytest.mark.kernel
TEXT = """
BPF_TABLE("array", u32, u64, numbers, 2);
BPF_TABLE("array", u32, u64, other, 1);
int count_switches(void *ctx) {
    u32 key = 1;
    u64 *value = numbers.lookup(&key);
    if (value)
        __sync_fetch_and_add(value, ADDED);
    key = 0;
    other.update(&key, &(u64){7});
    return 0;
}
"""


def request(added: int = 1) -> Request:
    return Request(TEXT, {"ADDED": added}, {"count_switches": RAW_TRACEPOINT}, ["numbers"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counted(asked: Request) -> tuple[bool, int]:
    """Whether a compiler was started, and what the programs counted when they were run once each."""
    build = Build(asked)
    loaded = build.finish()
    try:
        for name in asked.functions:
            link = syscalls.attach_raw_tracepoint(loaded.functions[name], "sys_enter")
            os.close(link)
        assert set(loaded.maps) == {"numbers"}
        return build._child is not None, syscalls.look_up(loaded.maps["numbers"], 1)
    finally:
        loaded.close()


def test_the_second_time_nothing_is_compiled_and_the_programs_do_the_same(folder: Path) -> None:
    compiled, first = counted(request())
    assert compiled and first >= 1
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    compiled, again = counted(request())
    assert not compiled and again >= 1
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert folder.stat().st_mode & 0o777 == 0o700


def test_every_program_of_the_recorder_is_loaded_from_what_was_kept(folder: Path) -> None:
    settings = {"events": True, "dns": True, "protocols": ("tcp", "udp", "icmp", "other")}
    asked = programs.request(settings)
    first = Build(asked).finish()
    again = Build(asked)
    assert again._child is None
    loaded = again.finish()
    try:
        assert again._child is None
        assert loaded.functions.keys() == first.functions.keys() == asked.functions.keys()
        assert loaded.enumerations == first.enumerations and loaded.enumerations["skb_drop_reason"]
        assert {name: syscalls.objects.map_shape(one) for name, one in loaded.maps.items()} == {
            name: syscalls.objects.map_shape(one) for name, one in first.maps.items()
        }
    finally:
        loaded.close()
        first.close()


def test_another_text_or_another_number_is_compiled(folder: Path) -> None:
    counted(request())
    compiled, number = counted(request(added=1000))
    assert compiled and number >= 1000 and number % 1000 == 0
    assert len(list(folder.iterdir())) == 2


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _open_to_others(path: Path) -> None:
    path.parent.chmod(0o777)


def _of_another(path: Path) -> None:
    os.chown(path, 65534, 65534)


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


@pytest.mark.parametrize("spoil", [_cut, _flip, _open_to_others, _of_another, _link])
def test_what_cannot_be_believed_is_compiled_anew(folder: Path, spoil: Callable[[Path], None]) -> None:
    counted(request())
    (kept,) = folder.iterdir()
    spoil(kept)
    compiled, number = counted(request())
    assert compiled and number >= 1


def _refused_by_the_kernel(kept: Compiled) -> None:
    exit_without_result = struct.pack("<BBhi", 0x95, 0, 0, 0)
    kept.programs["count_switches"] = Program(exit_without_result)


def _without_the_program(kept: Compiled) -> None:
    kept.programs["another"] = kept.programs.pop("count_switches")


@pytest.mark.parametrize("spoil", [_refused_by_the_kernel, _without_the_program])
def test_what_cannot_be_loaded_is_compiled_anew_and_leaves_nothing_open(
    folder: Path, spoil: Callable[[Compiled], None]
) -> None:
    counted(request())
    (path,) = folder.iterdir()
    kept = compile_cache.find(path)
    assert kept is not None
    spoil(kept)
    compile_cache.keep(path, kept)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    compiled, number = counted(request())
    assert compiled and number >= 1
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "file" / "cache"))
    assert counted(request())[0] and counted(request())[0]


def test_only_so_many_are_kept(folder: Path) -> None:
    counted(request())
    (path,) = folder.iterdir()
    kept = compile_cache.find(path)
    assert kept is not None
    for number in range(40):
        compile_cache.keep(folder / f"{number}.json", kept)
    assert len(list(folder.iterdir())) == 32
