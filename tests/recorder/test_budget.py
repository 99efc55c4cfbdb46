"""The budget's controller against simulated loads: it obeys, it comes back, it does not swing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from recorder.budget import Budget, Decision, Keeper, Spent, describe, ladder
from recorder.source import Effort

ASKED = Effort()
MEGABYTE = 1_000_000


@dataclass
class Simulation:
    """A recorder whose cost follows its effort: `fixed` (share of a core) and `per_load`, which each step cuts."""

    keeper: Keeper
    fixed: float = 0.004
    time: float = 0.0
    cpu: float = 0.0
    disk: float = 0.0
    memory: int = 80 * MEGABYTE
    decisions: list[tuple[float, Decision]] = field(default_factory=list)
    shares: list[tuple[float, float]] = field(default_factory=list)

    def cost(self, load: float) -> float:
        effort = self.keeper.effort
        intervals = 1.0 if effort.read_seconds == ASKED.read_seconds else 0.8
        rows = 0.4 if effort.together else 1.0
        return self.fixed * intervals + load * rows * intervals / effort.sampling

    def run(self, seconds: float, load: Callable[[float], float] | float, memory: int | None = None) -> None:
        end = self.time + seconds
        while self.time < end:
            pace = self.keeper.effort.read_seconds
            share = self.cost(load(self.time) if callable(load) else load)
            self.time += pace
            self.cpu += share * pace
            self.disk += share * pace * 10 * MEGABYTE
            self.memory = memory or self.memory
            self.shares.append((self.time, share))
            spent = Spent(self.time, self.cpu, self.memory, int(self.disk))
            if decision := self.keeper.judge(spent):
                self.decisions.append((self.time, decision))

    def after(self, time: float) -> list[float]:
        return [share for moment, share in self.shares if moment > time]


def simulation(**budget: float) -> Simulation:
    return Simulation(Keeper(Budget(**budget), ASKED))


def test_close_to_the_budget_it_steps_down_before_it_is_exceeded() -> None:
    found = simulation(cpu=0.02)
    found.run(120, 0.0155)  # 1.95% of a core
    assert found.decisions[0][1].reason.startswith("CPU 1.9% of a core is close to 2%: rows every 60 s")
    assert max(found.after(60)) <= 0.018


def test_what_fewer_flows_do_not_save_does_not_cost_all_accuracy() -> None:
    found = simulation(cpu=0.02)
    found.fixed = 0.028  # 2.2% of a core, whatever is left out
    found.run(100, 0.03)
    assert found.keeper.effort.sampling <= 16
    held = [decision.reason for _, decision in found.decisions if "hardly take less" in decision.reason]
    assert len(held) == 1 and held[0].startswith("CPU 2.3% of a core is over 2%, and fewer flows")
    found.run(120, 0.03)  # it tries again, now and then
    assert 16 <= found.keeper.effort.sampling <= 128
    found.fixed = 0.004
    found.run(400, 1.0)  # and where it helps, it goes on
    assert found.after(found.time - 60)[0] <= 0.02


def test_within_the_budget_nothing_is_left_out() -> None:
    found = simulation(cpu=0.02)
    found.run(600, 0.0135)
    assert (found.decisions, found.keeper.level) == ([], 0)


@pytest.mark.parametrize("load", [0.03, 0.06, 0.6, 5.0])
def test_a_steady_overload_is_brought_within_the_budget_and_stays(load: float) -> None:
    found = simulation(cpu=0.02)
    found.run(1200, load)
    assert max(found.after(120)) <= 0.02
    late = [decision for time, decision in found.decisions if time > 120]
    # It may try to go back a few times, ever more rarely; it must not swing.
    assert len(late) <= 6
    assert all(decision.kind in ("degraded", "restored") for _, decision in found.decisions)


def test_the_steps_come_in_their_order_and_say_why() -> None:
    found = simulation(cpu=0.02)
    found.run(60, 0.3)
    reasons = [decision.reason for _, decision in found.decisions]
    assert reasons[0] == "CPU 30.4% of a core is over 2%: rows every 60 s, read every 2 s"
    assert "short flows together" in reasons[1] and "1 in" not in reasons[1]
    assert reasons[2].endswith("short flows together, 1 in 8 flows")
    assert [decision.effort.sampling for _, decision in found.decisions[:3]] == [1, 1, 8]


def test_when_the_load_goes_everything_comes_back() -> None:
    found = simulation(cpu=0.02)
    found.run(120, 0.3)
    assert found.keeper.level > 3
    found.run(900, 0.002)
    assert found.keeper.level == 0
    restored = [decision for _, decision in found.decisions if decision.kind == "restored"]
    assert restored[-1].effort == ASKED
    assert restored[-1].reason.endswith("everything as asked for")
    assert " leaves room below 2%" in restored[-1].reason


def test_a_load_that_swings_makes_it_swing_ever_more_slowly() -> None:
    found = simulation(cpu=0.02)
    found.run(7200, lambda time: 0.05 if time // 60 % 2 else 0.005)
    first = sum(time < 1200 for time, _ in found.decisions)
    last = sum(time > 6000 for time, _ in found.decisions)
    assert last <= max(2, first // 3)


def test_what_cannot_be_held_is_said_once() -> None:
    found = simulation(cpu=0.001)
    found.run(600, 1.0)
    told = [decision.reason for _, decision in found.decisions if "nothing left to leave out" in decision.reason]
    assert len(told) == 1
    assert found.keeper.effort.sampling == 65_536


def test_the_rate_to_disk_is_held_too() -> None:
    found = simulation(disk_rate=1 * MEGABYTE)
    found.run(300, 1.0)
    assert max(found.after(120)) * 10 * MEGABYTE <= 1 * MEGABYTE
    assert found.decisions[0][1].reason.startswith("10.0 MB/s to disk is over 1.00 MB/s: ")


def test_memory_that_stopped_growing_calls_for_no_further_step() -> None:
    found = simulation(memory=120 * MEGABYTE)
    found.run(60, 0.1, memory=100 * MEGABYTE)
    assert not found.decisions
    found.run(120, 0.1, memory=130 * MEGABYTE)
    assert [decision.kind for _, decision in found.decisions] == ["degraded"]
    found.run(60, 0.1, memory=140 * MEGABYTE)
    assert len(found.decisions) == 2
    found.run(300, 0.1, memory=50 * MEGABYTE)
    assert found.keeper.level == 0


def test_a_sample_that_was_asked_for_is_halved_from_there() -> None:
    steps = ladder(Effort(sampling=3, active_timeout=120.0))
    assert [step.sampling for step in steps[:5]] == [3, 3, 3, 6, 12]
    assert {step.active_timeout for step in steps} == {120.0}
    assert describe(steps[3], steps[0]) == "rows every 120 s, read every 5 s, short flows together, 1 in 6 flows"


def test_no_budget_is_no_budget() -> None:
    assert not Budget()
    assert Budget(memory=1)
