"""Following a log: each line once, across rotation, truncation, restarts; syslog; what does not fit is kept."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from netrec.errors import CannotRecordError
from recorder.source import CaptureContext, find
from recorder.sources.proxy_logs.follow import FollowedFile, Syslog
from tests.support.namespaces import wait_until

LINE = "10.0.1.2:{port} [23/Nov/2026:01:02:03.655] f b/s 1/5/7 2120 -- 1/1/1/1/0 0/0\n"


class Following:
    """A follower of one file that can be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "proxy.log"
        self._state = folder / "state" / "place.json"
        self.got: list[bytes] = []
        self.follower: FollowedFile | None = None

    def start(self, **options: bool) -> Following:
        self.follower = FollowedFile(self.path, self._state, **options)
        return self

    def read(self) -> list[bytes]:
        """What is new."""
        assert self.follower is not None
        found: list[bytes] = []
        for _ in range(4):
            found += [line for _, line in self.follower.read()]
        self.got += found
        return found

    def stop(self) -> None:
        assert self.follower is not None
        self.follower.keep(self.follower.place())
        self.follower.close()

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)


@pytest.fixture
def following(tmp_path: Path) -> Following:
    return Following(tmp_path)


def test_lines_as_they_come_and_never_half_of_one(following: Following) -> None:
    following.start()
    assert following.read() == []
    following.write("a\nb")
    assert following.read() == [b"a"]
    following.write("c\n\nd\n")
    assert following.read() == [b"bc", b"", b"d"]


def test_rotation_by_rename_loses_nothing(following: Following) -> None:
    following.write("a\n")
    following.start().read()
    following.write("b\n")
    following.path.rename(following.path.with_suffix(".log.1"))
    assert following.read() == [b"b"]
    with following.path.with_suffix(".log.1").open("a") as file:
        file.write("late\nunfinished")  # the proxy still has the old file open
    assert following.read() == [b"late"]
    following.write("new\n")
    assert following.read() == [b"unfinished", b"new"]


def test_truncation_starts_again(following: Following) -> None:
    following.write("first\nsecond\n")
    following.start().read()
    shutil.copy(following.path, following.path.with_suffix(".log.1"))
    with following.path.open("w") as file:
        file.write("third\n")
    assert following.read() == [b"third"]


def test_a_restart_goes_on_where_it_was(following: Following) -> None:
    following.write("a\nb\nhal")
    following.start().read()
    following.stop()
    following.write("f\nc\n")
    following.start()
    assert following.read() == [b"half", b"c"]
    assert following.got == [b"a", b"b", b"half", b"c"]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_restart_after_a_rotation_finishes_the_old_file_first(following: Following, compressed: bool) -> None:
    following.write("a" * 300 + "\nb\n")
    following.start().read()
    following.stop()
    following.write("c\n")
    if compressed:
        with gzip.open(following.path.with_suffix(".log.1.gz"), "wb") as file:
            file.write(following.path.read_bytes())
        following.path.unlink()
    else:
        following.path.rename(following.path.with_suffix(".log.1"))
    following.write("new\n")
    following.start()
    assert following.read() == [b"c", b"new"]


def test_rotations_while_nobody_followed_are_caught_up_in_order(following: Following) -> None:
    following.write("a" * 300 + "\nb\n")
    following.start().read()
    following.stop()
    following.write("c\n")
    older, old = (following.path.with_name(f"proxy.log.{number}") for number in (2, 1))
    following.path.rename(older)
    following.write("later\n")
    following.path.rename(old)
    for number, path in enumerate((older, old)):
        os.utime(path, (1000 + number, 1000 + number))
    (following.path.parent / "proxy.log_errors").write_text("another log\n")
    following.write("new\n")
    following.start()
    assert following.read() == [b"c", b"later", b"new"]


def test_a_file_that_is_copied_and_cut_short_loses_nothing_that_the_copy_has(following: Following) -> None:
    following.write("a" * 300 + "\nb\n")
    following.start().read()
    following.write("c\n")
    shutil.copy(following.path, following.path.with_name("proxy.log.1"))
    following.path.write_text("new\n")
    assert following.read() == [b"c", b"new"]


def test_no_two_lines_have_the_same_position(following: Following) -> None:
    following.start()
    positions: list[int] = []
    for name in ("first", "second", "third"):
        following.write(f"{name}\n{name} again\n")
        for _ in range(3):
            positions += [position for position, _ in following.follower.read()]  # type: ignore[union-attr]
        following.path.rename(following.path.with_name(f"proxy.log.{name}"))
    assert positions == sorted(set(positions))
    assert len(positions) == 6


def test_a_proxy_that_still_writes_the_old_file_is_waited_for(following: Following) -> None:
    following.write("a\n")
    following.start().read()
    old = following.path.with_name("proxy.log.1")
    following.path.rename(old)
    following.path.touch()  # as logrotate's `create` does, before it tells the proxy to reopen
    assert following.read() == []
    with old.open("a") as file:
        file.write("b\n")
    assert following.read() == [b"b"]
    following.write("new\n")
    assert following.read() == [b"new"]


def test_what_came_between_the_last_look_and_the_rotation_is_read(following: Following) -> None:
    following.write("a\n")
    following.start().read()
    follower = following.follower
    assert follower is not None

    class Late:
        """An open file whose end was reached just before the proxy wrote its last line and moved on."""

        def __init__(self, file: Any) -> None:
            self._file, self._reads = file, 0

        def read(self, size: int) -> bytes:
            self._reads += 1
            if self._reads == 1:
                following.write("b\n")
                following.path.rename(following.path.with_name("proxy.log.1"))
                following.write("new\n")
                return b""
            return self._file.read(size)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    follower._file = Late(follower._file)  # type: ignore[assignment]
    assert following.read() == [b"b", b"new"]


def test_another_file_of_that_name_is_read_from_its_start(following: Following) -> None:
    following.write("a\nb\n")
    following.start().read()
    following.stop()
    following.path.write_text("other\n")
    following.start()
    assert following.read() == [b"other"]


def test_a_finished_file_ends_also_compressed(tmp_path: Path) -> None:
    path = tmp_path / "old.log.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"a\nb\nc")
    follower = FollowedFile(path, tmp_path / "state.json")
    got = [line for _ in range(3) for _, line in follower.read()]
    assert got == [b"a", b"b", b"c"]
    assert follower.finished


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_syslog_datagrams(tmp_path: Path, kind: str) -> None:
    where = "udp://127.0.0.1:0" if kind == "udp" else str(tmp_path / "log.socket")
    receiver = Syslog(where)
    address = receiver._socket.getsockname()
    with socket.socket(socket.AF_INET if kind == "udp" else socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for text in (b"<134>one\n", b"two\0"):
            sender.sendto(text, address)
    assert [line for _, line in receiver.read()] == [b"<134>one", b"two"]
    if kind == "unix":
        with pytest.raises(CannotRecordError):
            Syslog(where)  # somebody listens there
    receiver.close()
    assert not (tmp_path / "log.socket").exists()


def source(tmp_path: Path, **settings: Any) -> Any:
    context = CaptureContext("host", "capture1", {"output": tmp_path / "trace"} | settings)
    return find("haproxy").create(context)


def test_each_line_is_a_row_or_rejected_with_its_reason(tmp_path: Path) -> None:
    log = tmp_path / "haproxy.log"
    log.write_text(LINE.format(port=1000) + "Proxy f started.\n" + "\x1b[2Jevil\n" + LINE.format(port=1001))
    recording = source(tmp_path, log=str(log))
    recording.start()
    recording.poll()
    (table, rows), *_ = list(recording.read())
    assert table == "flows"
    assert rows.column("client_port").to_pylist() == [1000, 1001]
    assert rows.column("source").to_pylist() == ["haproxy"] * 2
    health = recording.health()
    assert (health.events_seen, health.events_lost) == (4, 2)
    list(recording.stop())
    rejected = (tmp_path / "trace" / "rejected" / "haproxy-capture1.log").read_text()
    assert "Proxy f started." in rejected
    assert "does not have" in rejected or "none of" in rejected
    assert "\x1b" not in rejected


def test_a_recorder_that_starts_again_writes_each_line_once_with_the_same_identity(tmp_path: Path) -> None:
    log = tmp_path / "haproxy.log"
    log.write_text("".join(LINE.format(port=port) for port in range(1, 6)))
    ports: list[int] = []
    ids: list[int] = []
    for more in range(3):
        recording = source(tmp_path, log=str(log))
        recording.start()
        recording.poll()
        batches = [batch for _, batch in [*recording.read(), *recording.stop()]]
        ports += [port for batch in batches for port in batch.column("client_port").to_pylist()]
        ids += [one for batch in batches for one in batch.column("flow_id").to_pylist()]
        recording.close()  # the pipeline does, once the last rows are written
        with log.open("a") as file:
            file.write(LINE.format(port=100 + more))
    assert ports == [1, 2, 3, 4, 5, 100, 101]
    assert len(set(ids)) == 7


def test_a_log_that_began_and_rotated_just_before_the_kill_is_read(tmp_path: Path) -> None:
    log = tmp_path / "haproxy.log"
    recording = source(tmp_path, log=str(log))
    recording.start()
    list(recording.read())
    (state,) = (tmp_path / "trace" / ".followed").iterdir()
    started = state.stat().st_mtime_ns
    log.write_text(LINE.format(port=1))
    recording.poll()
    log.rename(log.with_name("haproxy.log.1"))
    log.write_text(LINE.format(port=2))

    def later() -> bool:
        (tmp_path / "now").write_text("")
        return (tmp_path / "now").stat().st_mtime_ns > max(started, log.stat().st_mtime_ns)

    wait_until(later, "a tick of the file system's clock")
    list(recording.read())
    # Killed here, before these rows were written.
    recording = source(tmp_path, log=str(log))
    recording.start()
    ports = [port for _, rows in recording.stop() for port in rows.column("client_port").to_pylist()]
    assert ports == [1, 2]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    specification = find("squid")
    assert "where the log is" in specification.can_run({"log": None}).reason
    assert "is a folder" in specification.can_run({"log": str(tmp_path)}).reason
    assert "no folder" in specification.can_run({"log": str(tmp_path / "no" / "x.log")}).reason
    assert "no time" in specification.can_run({"log": str(tmp_path / "x.log"), "log_format": "%>a"}).reason
    assert specification.can_run({"log": str(tmp_path / "x.log")}).ready
