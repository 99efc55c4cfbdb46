"""A recorder that follows a log is killed at random moments, while lines come and the file rotates: each line once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.gateway import NETREC, recorded

LINE = "10.0.1.2:{port} [23/Nov/2026:01:02:{second:02}.655] f b/s 1/5/7 {number} -- 1/1/1/1/0 0/0\n"
KILLS = 3
# Lines while the recorder starts, and from then on (about two seconds: it writes its rows every second).
STARTING, FOLLOWED = 600, 3000
UNFIT = 50  # every such line fits no format


class Log:
    """Appends lines in small bursts, and renames the file away now and then."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._path = path
        self._chance = chance
        self._file = path.open("a", buffering=1)
        self.written = self.rotations = 0

    def write(self, lines: int) -> None:
        """So many, all of them there when it returns."""
        end = self.written + lines
        while self.written < end:
            for _ in range(min(self._chance.randrange(1, 60), end - self.written)):
                self._write_line()
            time.sleep(self._chance.random() * 0.04)
            if self._chance.random() < 0.03:
                self.rotate()

    def _write_line(self) -> None:
        self.written += 1
        number = self.written
        if number % UNFIT == 0:
            self._file.write(f"not a session, number {number}\n")
        else:
            self._file.write(LINE.format(port=number % 60_000, second=number % 60, number=number))

    def rotate(self) -> None:
        """The proxy goes on in a new file."""
        self.close()
        self.rotations += 1
        self._path.rename(f"{self._path}.{self.rotations:03}")
        self._file = self._path.open("a", buffering=1)

    def close(self) -> None:
        self._file.close()


@contextmanager
def following(trace: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [NETREC, "record", "--source", "haproxy", "-o", trace, "--json", "--rotate-interval", "2s"]
    with subprocess.Popen(
        [*command, "--log", log], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as recorder:
        try:
            yield recorder
        finally:
            recorder.kill()


def wait_until_it_records(recorder: subprocess.Popen[str]) -> None:
    assert recorder.stdout is not None
    assert recorder.stdout.readline(), recorder.communicate()[1]


def test_each_line_once_whenever_the_recorder_is_killed(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 30)
    print(f"seed {seed}", file=sys.stderr)  # shown when it fails
    chance = random.Random(seed)
    trace, path = tmp_path / "trace", tmp_path / "haproxy.log"
    log = Log(path, chance)
    for turn in range(KILLS):
        with following(trace, path) as recorder:
            if turn:  # what was rotated before the very first start is not followed
                log.write(STARTING)
            wait_until_it_records(recorder)
            before = chance.randrange(FOLLOWED)
            log.write(before)
            recorder.kill()
            recorder.communicate()
            assert recorder.returncode == -signal.SIGKILL
        log.rotate()
        log.write((FOLLOWED - before) // 10)
    log.close()
    with following(trace, path) as recorder:
        wait_until_it_records(recorder)
        recorder.send_signal(signal.SIGINT)
        _, errors = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, errors
    rows = Counter(recorded(trace)["server_bytes"].to_pylist())
    rejected = Counter(
        line.split("\t")[2] for file in (trace / "rejected").iterdir() for line in file.read_text().splitlines()
    )
    expected = Counter(number for number in range(1, log.written + 1) if number % UNFIT)
    assert rows - expected == Counter(), "twice"
    assert expected - rows == Counter(), "never"
    assert rejected == Counter(f"not a session, number {number}" for number in range(UNFIT, log.written + 1, UNFIT))
    assert len(recorded(trace)["flow_id"].unique()) == rows.total()
