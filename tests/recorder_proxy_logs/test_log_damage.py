"""A log that is damaged, a disk that is full: one sentence with what helps, and no line is lost."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from netrec.errors import CannotRecordError
from recorder.source import CaptureContext, find
from recorder.sources.proxy_logs.recorder_source import LogSource
from tests.support.gateway import NETREC, recorded

LINE = "10.0.1.2:{port} [23/Nov/2026:01:02:03.655] f b/s 1/5/7 2120 -- 1/1/1/1/0 0/0\n"
LINES = 3000


def compressed(path: Path, text: str) -> bytes:
    data = gzip.compress(text.encode(), mtime=0)
    path.write_bytes(data)
    return data


def readable(data: bytes) -> list[str]:
    """What zcat prints of a damaged file, without a last half line."""
    done = subprocess.run(["gzip", "-dcf"], input=data, capture_output=True)
    assert done.returncode
    return done.stdout.decode().split("\n")[:-1]


def record(trace: Path, log: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [NETREC, "record", "--source", "haproxy", "-o", trace, "--log", log, "--log-once", *options]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("part", [0.6, 0.002], ids=["half", "hardly anything"])
def test_a_compressed_log_that_was_cut_short(tmp_path: Path, part: float) -> None:
    """Every line before the cut is a row; the rest comes, each line once, when the whole file is there."""
    log, trace = tmp_path / "haproxy.log.1.gz", tmp_path / "trace"
    ports = random.Random(1).sample(range(1, 60_000), LINES)
    whole = compressed(log, "".join(LINE.format(port=port) for port in ports))
    cut = whole[: int(len(whole) * part)]
    log.write_bytes(cut)
    done = record(trace, log, "--quiet")
    assert done.returncode == 2
    said = done.stderr.strip().splitlines()
    assert "is damaged" in said[0] and "haproxy.log.1.gz" in said[0] and len(said) <= 2, done.stderr
    assert recorded(trace).num_rows == len(readable(cut)) < LINES
    log.write_bytes(whole)
    done = record(trace, log)
    assert done.returncode == 0 and f"now run: netrec analyze sessions {trace}" in done.stderr
    assert Counter(recorded(trace)["client_port"].to_pylist()) == Counter(ports)


def test_a_compressed_log_whose_bytes_were_changed(tmp_path: Path) -> None:
    log, trace = tmp_path / "haproxy.log.1.gz", tmp_path / "trace"
    data = bytearray(compressed(log, "".join(LINE.format(port=port) for port in range(1, LINES))))
    data[len(data) // 2 : len(data) // 2 + 50] = os.urandom(50)
    log.write_bytes(data)
    done = record(trace, log, "--quiet")
    assert done.returncode == 2
    assert "is damaged" in done.stderr and "Traceback" not in done.stderr


def test_a_rotated_log_that_is_just_being_compressed_is_read_once(tmp_path: Path) -> None:
    log = tmp_path / "haproxy.log"
    log.write_text(LINE.format(port=1))
    first = source(tmp_path, log)
    first.start()
    first.poll()
    list(first.read())
    list(first.stop())
    first.close()
    log.rename(tmp_path / "haproxy.log.2")
    later = "".join(LINE.format(port=port) for port in range(2, 500))
    (tmp_path / "haproxy.log.1").write_text(later)
    (tmp_path / "haproxy.log.1.gz").write_bytes(gzip.compress(later.encode())[:200])
    log.write_text(LINE.format(port=500))
    again = source(tmp_path, log)
    again.start()
    ports = [port for _, rows in again.stop() for port in rows.column("client_port").to_pylist()]
    again.close()
    assert ports == list(range(2, 501))


def source(tmp_path: Path, log: Path, capture: str = "capture1") -> LogSource:
    made = find("haproxy").create(CaptureContext("host", capture, {"output": tmp_path / "trace", "log": str(log)}))
    assert isinstance(made, LogSource)
    return made


def test_no_room_for_what_does_not_fit(tmp_path: Path) -> None:
    """The recording ends, and the next one goes on with that very line."""
    log, rejected = tmp_path / "haproxy.log", tmp_path / "trace" / "rejected"
    rejected.mkdir(parents=True)
    (rejected / "haproxy-capture1.log").symlink_to("/dev/full")
    log.write_text(LINE.format(port=1) + "no session\n" + LINE.format(port=2))
    recording = source(tmp_path, log)
    recording.start()
    with pytest.raises(CannotRecordError, match="No space left on device") as caught:
        recording.poll()
    assert caught.value.hint
    recording.close()
    (rejected / "haproxy-capture1.log").unlink()
    recording = source(tmp_path, log, "capture2")
    recording.start()
    ports = [port for _, rows in recording.stop() for port in rows.column("client_port").to_pylist()]
    recording.close()
    assert ports == [1, 2]
    assert (rejected / "haproxy-capture2.log").read_text().endswith("\tno session\n")


def test_health_says_what_was_lost_in_the_sources_own_words(tmp_path: Path) -> None:
    log, trace = tmp_path / "haproxy.log", tmp_path / "trace"
    log.write_text(LINE.format(port=1) + "no session\n" * 3)
    assert record(trace, log).returncode == 0
    health = ds.dataset(sorted(map(str, trace.glob("health/**/*.parquet")))).to_table()
    said = [reason for reason in health["reason"].to_pylist() if reason]
    assert said == ["lost because lines do not fit the format (see rejected/) (3)"]
