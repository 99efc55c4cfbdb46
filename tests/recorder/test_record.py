"""`netrec record` as a process: rotation, signals, crashes, full disks, neighbours. The source is synthetic."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from netrec.trace import layout, metadata
from recorder.convert import BACKGROUND_NICENESS


def start(trace: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "netrec", "record", "--source", "synthetic", "-o", str(trace), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def record(trace: Path, *arguments: str, **options: Any) -> tuple[int, str, str]:
    process = start(trace, *arguments, **options)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def repair(trace: Path) -> str:
    command = [sys.executable, "-m", "netrec", "repair", str(trace)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def files(trace: Path, table: str = "flows") -> list[Path]:
    return sorted(trace.glob(f"{table}/date=*/hour=*/*.parquet"), key=lambda path: (path.name, path))


def footers(trace: Path, table: str = "flows") -> list[metadata.FileMetadata]:
    return [metadata.decode_file(pq.read_metadata(path).metadata) for path in files(trace, table)]


def rows(trace: Path, table: str = "flows") -> list[dict[str, Any]]:
    tables = [pq.ParquetFile(path).read() for path in files(trace, table)]
    return pa.concat_tables(tables).to_pylist() if tables else []


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def said_until(process: subprocess.Popen[str], condition: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """What a recorder with --json says, up to a line that meets the condition."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(json.loads(line))
        if condition(said[-1]):
            return said
    raise AssertionError(f"the recording ended before: {said[-3:]}")


def rows_written(line: dict[str, Any]) -> bool:
    return line.get("rows", 0) > 0


@contextlib.contextmanager
def recording(trace: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A recorder that says how it goes (--json), from when it has written rows."""
    process = start(trace, "--json", *arguments)
    try:
        said_until(process, rows_written)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_recording_with_rotation_says_what_it_did_and_loses_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options = ("--rotate-interval", "1s", "--host", "web-1", "--synthetic-rate", "700")
    with recording(trace, *options) as process:
        until(lambda: len(files(trace)) >= 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    progress = [json.loads(line) for line in out.splitlines()]
    assert {"elapsed", "remaining", "rows", "rows_per_second", "files", "bytes", "lost", "paused"} <= progress[0].keys()
    assert progress[-1]["done"] and progress[-1]["lost"] == 0
    found = rows(trace)
    assert len(found) == progress[-1]["rows"]
    short = sorted(row["flow_id"] for row in found if row["flow_end_reason"] == "end")
    assert len(set(short)) == len(short) >= 0.95 * 700 * progress[-1]["elapsed"]
    assert short == list(range(short[0], short[0] + len(short)))
    assert sum(row["flow_end_reason"] == "forced" for row in found) == 10
    described = footers(trace)
    assert len(described) >= 4
    assert [one.sequence for one in described] == list(range(len(described)))
    assert {one.closed for one in described[:-1]} <= {"interval"} and described[-1].closed == "end"
    for before, after in itertools.pairwise(described):
        assert after.opened >= before.closed_time
        # Aligned to whole seconds; a busy machine may be late, never early.
        assert after.opened[:19] > before.opened[:19]
    assert min(float(one.opened[17:26]) % 1 for one in described[1:]) < 0.9
    assert described[0].capture.host == "web-1" and described[0].capture.boot_id and described[0].capture.command_line
    health = rows(trace, "health")
    assert sum(row["rows_written"] for row in health) == len(found)
    assert "netrec analyze top-talkers" in err
    assert not (trace / ".spool").exists()


def test_a_recorder_that_gives_way_already_finishes_its_files(tmp_path: Path) -> None:
    """More than its own background work does, which must not ask for a better place: that takes a right."""
    trace = tmp_path / "trace"
    code, _, err = record(trace, "--duration", "1s", preexec_fn=lambda: os.nice(BACKGROUND_NICENESS + 2))
    assert code == 0, err
    assert files(trace) and not (trace / ".spool").exists()


def test_quiet_is_quiet(tmp_path: Path) -> None:
    assert record(tmp_path / "trace", "--duration", "1s", "--quiet") == (0, "", "")


def test_modes_under_any_umask(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    record(trace, "--duration", "1s", preexec_fn=lambda: os.umask(0))
    for path in (trace, *trace.rglob("*")):
        assert path.stat().st_mode & 0o777 == (layout.FOLDER_MODE if path.is_dir() else layout.FILE_MODE), path


def test_hangup_rotates_now_and_interrupt_ends_in_order(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with recording(trace, "--rotate-interval", "1h") as process:
        process.send_signal(signal.SIGHUP)
        until(lambda: len(files(trace)) == 1)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert footers(trace)[0].closed == "hangup"
    assert [one.sequence for one in footers(trace)] == list(range(len(files(trace))))


def test_kill_then_repair_has_every_row_that_was_told_of_once(tmp_path: Path) -> None:
    """The recorder says every second how many it has written; half a second later it is at work on others."""
    trace = tmp_path / "trace"
    with recording(trace, "--rotate-interval", "1h", "--synthetic-rate", "3000") as process:
        process.send_signal(signal.SIGHUP)
        finished = said_until(process, lambda line: line.get("files", 0) > 0)[-1]["rows"]
        told = said_until(process, lambda line: line.get("rows", 0) > finished)[-1]["rows"]
        time.sleep(0.5)
        process.kill()
    said = repair(trace)
    assert "rows saved" in said
    ids = sorted(row["flow_id"] for row in rows(trace) if row["flow_end_reason"] == "end")
    assert len(ids) == len(set(ids))
    assert ids == list(range(ids[0], ids[0] + len(ids)))  # nothing missing in between
    assert len(rows(trace)) >= told
    assert [one.sequence for one in footers(trace)] == list(range(len(files(trace))))
    assert footers(trace)[-1].closed == "repaired"
    assert repair(trace).startswith("nothing to repair")
    assert not (trace / ".spool").exists()


def test_a_crash_between_rename_and_removal_gives_no_duplicates(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with recording(trace, "--rotate-interval", "1h", "--synthetic-rate", "500") as process:
        process.kill()
    spool = next(trace.glob(".spool/*"))
    kept = {path.name: path.read_bytes() for path in spool.iterdir()}
    repair(trace)
    before = {path: path.read_bytes() for path in files(trace)}
    spool.mkdir(parents=True)
    for name, content in kept.items():
        (spool / name).write_bytes(content)
    (spool / "flows-000000.parquet.partial").write_bytes(b"PAR1half")
    said = repair(trace)
    assert "already finished" in said and "never finished" in said
    assert {path: path.read_bytes() for path in files(trace)} == before
    # A final file that is not whole is made again from the spool.
    spool.mkdir(parents=True)
    for name, content in kept.items():
        (spool / name).write_bytes(content)
    files(trace)[0].write_bytes(next(iter(before.values()))[:500])
    assert "rows saved" in repair(trace)
    assert pq.read_metadata(files(trace)[0]).num_rows > 0


def test_repair_leaves_a_running_recorder_alone_and_two_can_share_a_folder(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with recording(trace) as one, recording(trace) as two:
        until(lambda: len(list(trace.glob(".spool/*/flows-*.arrows"))) == 2)
        assert repair(trace).count("left alone") == 2
        for process in (one, two):
            process.send_signal(signal.SIGTERM)
        assert [one.wait(30), two.wait(30)] == [0, 0]
    found = footers(trace)
    assert len({one.capture.capture for one in found}) == 2
    assert sum(one.rows for one in found) == len(rows(trace))


def test_the_next_recording_repairs_and_says_so(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with recording(trace, "--rotate-interval", "1h") as process:
        process.kill()
    code, _, err = record(trace, "--duration", "1s")
    assert code == 0
    assert "rows saved" in err
    assert len({one.capture.capture for one in footers(trace)}) == 2


def test_a_source_that_fails_leaves_what_was_recorded(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code, _, err = record(trace, "--synthetic-fail-after", "2500", "--duration", "20s")
    assert code == 2
    assert "failed after 2500 rows" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert len(rows(trace)) > 500
    assert not (trace / ".spool").exists()


def test_keep_size_holds_while_recording(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    options = ("--rotate-interval", "1s", "--synthetic-rate", "2000", "--keep-size", "150kB")
    with recording(trace, *options) as process:
        until(lambda: bool(files(trace)) and not files(trace)[0].stem.endswith("-000000"), 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    left = footers(trace)
    assert left and left[0].sequence > 0
    assert [one.sequence for one in left] == list(range(left[0].sequence, left[0].sequence + len(left)))


@pytest.mark.kernel
def test_a_full_disk_stops_nothing_and_leaves_a_gap_in_health(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=True)
    try:
        trace = disk / "trace"
        process = start(trace, "--synthetic-rate", "4000", "--json")
        said_until(process, rows_written)
        # A neighbour takes all that is left, and gives it back later.
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(65536))
        said_until(process, lambda line: bool(line.get("paused")))
        said_until(process, lambda line: bool(line.get("paused")) and line["lost"] > 0)
        filler.unlink()
        again = said_until(process, lambda line: line.get("paused", "no status") is None)[-1]
        said_until(process, lambda line: line.get("rows", 0) > again["rows"])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        health = rows(trace, "health")
        gaps = [row for row in health if row["kind"] == "gap"]
        assert gaps and all(row["end_time"] > row["start_time"] and row["reason"] for row in gaps)
        found = rows(trace)
        short = sorted(row["flow_id"] for row in found if row["flow_end_reason"] == "end")
        last = json.loads(out.splitlines()[-1])
        assert len(found) == last["rows"]
        assert sum(row["lost_on_disk"] for row in gaps) == last["lost"] > 0
        assert len(short) == len(set(short))
        assert not (trace / ".spool").exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.kernel
def test_a_disk_that_stays_full_still_gets_the_last_words(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(disk)], check=True)
    try:
        trace = disk / "trace"
        process = start(trace, "--synthetic-rate", "2000", "--min-free", "0", "--json")
        said_until(process, rows_written)
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
        said_until(process, lambda line: bool(line.get("paused")))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert [row["kind"] for row in rows(trace, "health")].count("gap") == 1
        (disk / "filler").unlink()
        repair(trace)
        assert len(rows(trace)) > 0
        assert not (trace / ".spool").exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_sample_of_the_flows_is_recorded_and_says_so(tmp_path: Path) -> None:
    code, _, err = record(tmp_path / "t", "--synthetic-rate", "20000", "--sample", "1/8", "--duration", "2s")
    assert code == 0, err
    found = rows(tmp_path / "t")
    seen = sum(row["events_seen"] for row in rows(tmp_path / "t", "health") if row["kind"] == "interval")
    assert seen / 8 * 0.9 < len(found) < seen / 8 * 1.1
    assert {row["sampling_interval"] for row in found} == {8}
    assert {row["sampling_interval"] for row in rows(tmp_path / "t", "health")} == {8}
    assert footers(tmp_path / "t")[0].capture.settings["sample"] == 8


@pytest.mark.parametrize("sample", ["8", "2/8", "1/0", "1/x", "1/2000000"])
def test_what_is_no_sample_is_refused(tmp_path: Path, sample: str) -> None:
    code, _, err = record(tmp_path / "t", "--sample", sample)
    assert (code, "is not a sample of flows such as 1/16" in err) == (2, True)


def test_only_rows_that_match_the_filter_are_written_and_the_files_say_so(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    code, _, err = record(trace, "--duration", "1.5s", "--filter", "server port 443 and not process nginx")
    assert code == 0, err
    found = rows(trace)
    assert found and {row["server_port"] for row in found} == {443}
    assert "nginx" not in {row["process_name"] for row in found}
    assert {footer.capture.filter for footer in footers(trace)} == {"server port 443 and not process nginx"}
    assert sum(row["rows_written"] for row in rows(trace, "health")) == len(found)
    shown = subprocess.run(
        [sys.executable, "-m", "netrec", "inspect", str(trace)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "recorded only what matches: server port 443 and not process nginx" in shown.stdout


def test_a_wrong_filter_is_refused_with_its_place(tmp_path: Path) -> None:
    code, _, err = record(tmp_path / "trace", "--filter", "tcp prot 80")
    assert code == 2 and not (tmp_path / "trace").exists()
    assert err.splitlines()[1:] == ["  tcp prot 80", "      ^~~~"]


def test_a_source_says_what_it_cannot_filter_by(tmp_path: Path) -> None:
    log = tmp_path / "haproxy.log"
    owners = ("--filter", "port 80 or process nginx", "--duration", "1s")
    code, _, err = record(tmp_path / "trace", "--source", "synthetic,haproxy", "--log", str(log), *owners)
    assert code == 2 and "source haproxy cannot tell the process of a session" in err
    assert "             ^~~~" in err
    code, _, err = record(tmp_path / "trace", "--source", "synthetic,host", *owners)
    assert code == 0 and "source host has no flows to filter" in err
    alone = [sys.executable, "-m", "netrec", "record", "--source", "host", "-o", str(tmp_path / "alone"), *owners]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "no flows to select among" in done.stderr


def test_a_recorder_never_imports_pandas() -> None:
    """Arrow would, for every list that becomes a column: 40 MB more, wherever pandas happens to be installed."""
    code = """
import sys
from recorder import memory
memory.prepare()
memory.configure()
import pyarrow as pa
pa.array(["a"])
pa.array([1, 2], pa.int64())
print([name for name in sys.modules if name.startswith("pandas.")])
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert printed.stdout.strip() == "[]"
