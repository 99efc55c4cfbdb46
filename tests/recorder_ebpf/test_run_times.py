"""How long programs run, from moments in which they time themselves."""

import random

import pytest

from recorder.bpf import run_times
from recorder.bpf.run_times import WINDOW_SECONDS, RunTimes


class Programs:
    """Programs that run for a `share` of the time, and count that while they time themselves; and a clock."""

    def __init__(self, share: float) -> None:
        self.share, self.time, self.timing, self.counted, self.timed = share, 100.0, False, 0.0, 0.0

    def monotonic(self) -> float:
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        self.time += seconds
        if self.timing:
            self.counted += seconds * self.share * 1e9
            self.timed += seconds

    def switch(self, timing: bool) -> None:
        self.timing = timing

    def read(self) -> int:
        return int(self.counted)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs(0.01)
    monkeypatch.setattr(run_times.time, "monotonic", programs.monotonic)
    return programs


def watched(programs: Programs, times: RunTimes, seconds: float, step: float) -> int:
    end, taken = programs.time + seconds, 0
    while programs.time < end:
        times.step()
        programs.pass_seconds(step)
        taken += times.take()
    return taken


@pytest.mark.parametrize("step", [0.01, 0.1, 0.25])
def test_a_steady_load_is_known_from_a_part_of_the_time(programs: Programs, step: float) -> None:
    times = RunTimes(programs.switch, programs.read)
    taken = watched(programs, times, 60, step)
    times.stop()
    assert not programs.timing
    assert taken + times.take() == pytest.approx(60e6 * 0.01, rel=0.04)
    assert programs.timed < 60 * 0.4


def test_a_load_that_comes_in_turns_is_met_at_random(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    times = RunTimes(programs.switch, programs.read)
    times._random = random.Random(1)
    taken = 0
    for turn in range(2000):
        programs.share = 0.02 if turn % 2 else 0.0
        taken += watched(programs, times, 0.5, 0.02)
    times.stop()
    assert taken + times.take() == pytest.approx(1000e6 * 0.01, rel=0.1)


def test_a_capture_that_ends_within_the_first_moment_still_says_what_it_took(programs: Programs) -> None:
    times = RunTimes(programs.switch, programs.read)
    times.step()
    programs.pass_seconds(WINDOW_SECONDS / 2)
    times.stop()
    assert times.take() == pytest.approx(WINDOW_SECONDS / 2 * 0.01 * 1e6, abs=1)
    times.stop()
    assert times.take() == 0
