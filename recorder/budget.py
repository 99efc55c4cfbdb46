"""Keeps the recorder within its budget: measurements in, decisions out. Touches nothing itself.

Over the budget the recorder does less, a step at a time, and goes back when there is room again:

    as asked -> longer intervals -> short flows together -> 1 in 2 -> 1 in 4 -> ... -> 1 in 65,536

A step down this ladder needs the budget to be used up over the last readings (`WINDOW_READINGS` of them, and
`WINDOW_SECONDS` at least); of CPU time 90% of it (`AIM`), for a step takes effect only after the next readings. What
came before a step is never judged with what comes after it. Where two halvings in a row have saved next to nothing,
what is left is not the flows': the next one waits, for all that it would cost is accuracy. A step back needs what the
step is known to have saved to fit in again, with room to spare, for all of a waiting time; that doubles whenever a step
back had to be taken back soon after. So a steady load never makes it swing, and a load that swings makes it swing ever
more slowly.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace

from netrec.text import format_size
from recorder.source import Effort

WINDOW_SECONDS = 4.0
WINDOW_READINGS = 2
WAIT_SECONDS = 30.0
LONGEST_WAIT_SECONDS = 960.0
SOON_SECONDS = 120.0
# The part of a budget of CPU time that is aimed at.
AIM = 0.9
# A step back is taken when what is expected after it is at most this part of what is aimed at.
ROOM = 0.8
# What a step saves is learnt as it is taken, between these; halving the sample saves half at most.
LEAST_FACTOR, MOST_FACTOR = 1.3, 8.0
MOST_HALVINGS = 16
# The level from which on every further step halves the sample.
HALVING_FROM = 2
HALVINGS_AT_ONCE = 4
# Halvings that leave more than this part of the cost save next to nothing; after so many the next waits so long.
LITTLE_SAVED, MOST_IN_VAIN, HOLD_SECONDS = 0.9, 2, 60.0


@dataclass(frozen=True)
class Budget:
    """The most that the recorder may take: `cpu` as a share of one core, `memory` in bytes, `disk_rate` in bytes per
    second; None: no limit."""

    cpu: float | None = None
    memory: int | None = None
    disk_rate: int | None = None

    def __bool__(self) -> bool:
        return self != Budget()


@dataclass(frozen=True)
class Spent:
    """What the recorder has taken: `cpu_seconds` and `disk_bytes` in all since it began, at `time` (seconds, of a clock
    that never steps), and `memory` bytes now."""

    time: float
    cpu_seconds: float
    memory: int
    disk_bytes: int


@dataclass(frozen=True)
class Decision:
    """A step: `kind` is degraded or restored, `effort` what is to be done from now on, `reason` why, in words."""

    kind: str
    effort: Effort
    reason: str


@dataclass(frozen=True)
class _Use:
    """One resource over the window: its part of the budget, and how to say that."""

    part: float
    words: str


def ladder(asked: Effort) -> list[Effort]:
    """What to do at each level; level 0 is what the user asked for."""
    longer = replace(asked, active_timeout=max(asked.active_timeout, 60.0), read_seconds=2.0, poll_seconds=0.25)
    together = replace(longer, together=True, read_seconds=5.0)
    fewer = [replace(together, sampling=asked.sampling << halving) for halving in range(1, MOST_HALVINGS + 1)]
    return [asked, longer, together, *fewer]


def describe(effort: Effort, asked: Effort) -> str:
    """How an effort differs from what was asked for; empty when it does not."""
    parts = []
    if effort.active_timeout != asked.active_timeout or effort.read_seconds != asked.read_seconds:
        parts.append(f"rows every {effort.active_timeout:g} s, read every {effort.read_seconds:g} s")
    if effort.together and not asked.together:
        parts.append("short flows together")
    if effort.sampling != asked.sampling:
        parts.append(f"1 in {effort.sampling} flows")
    return ", ".join(parts)


class Keeper:
    """Judges one measurement after the other; see the module."""

    def __init__(self, budget: Budget, asked: Effort) -> None:
        self.budget, self._asked = budget, asked
        self._ladder = ladder(asked)
        self._level = 0
        self._seen: deque[Spent] = deque()
        self._wait = WAIT_SECONDS
        self._room_since: float | None = None
        self._stepped_back = -SOON_SECONDS
        # By how much a step to a level cut the cost, once that is known; until then what the cost was before.
        self._factors: dict[int, float] = {}
        self._before: float | None = None
        self._memory_at_step = 0
        self._told_end = False
        # What the cost was before the last halving, until that is judged; how many have saved next to nothing; and
        # until when there are no more.
        self._halved: float | None = None
        self._in_vain = 0
        self._hold_until = 0.0

    @property
    def level(self) -> int:
        """How many steps down the ladder the recorder is."""
        return self._level

    @property
    def effort(self) -> Effort:
        """What is to be done now."""
        return self._ladder[self._level]

    def judge(self, spent: Spent) -> Decision | None:
        """Take in a measurement; the step that it leads to, or None. Call it after every reading of the sources."""
        window = max(WINDOW_SECONDS, WINDOW_READINGS * self.effort.read_seconds) - 0.5
        self._seen.append(spent)
        while len(self._seen) > 2 and self._seen[1].time <= spent.time - window:
            self._seen.popleft()
        if spent.time - self._seen[0].time < window:
            return None
        use = self._use(self._seen[0], spent)
        if self._before is not None:
            self._factors[self._level] = min(max(self._before / max(use.part, 1e-6), LEAST_FACTOR), MOST_FACTOR)
            self._before = None
        return self._less(use, spent) if use.part > 1 else self._more(use, spent)

    def _less(self, use: _Use, spent: Spent) -> Decision | None:
        self._room_since = None
        last = len(self._ladder) - 1
        if self._level == last:
            told, self._told_end = self._told_end, True
            reason = f"{use.words}, and there is nothing left to leave out"
            return None if told else Decision("degraded", self.effort, reason)
        if self._halved is not None:
            self._in_vain = self._in_vain + 1 if use.part > self._halved * LITTLE_SAVED else 0
            self._halved = None
            if self._in_vain >= MOST_IN_VAIN:
                self._hold_until = spent.time + HOLD_SECONDS
                return Decision("degraded", self.effort, f"{use.words}, and fewer flows hardly take less")
        if spent.time < self._hold_until:
            return None
        if spent.time - self._stepped_back < SOON_SECONDS:
            self._wait = min(self._wait * 2, LONGEST_WAIT_SECONDS)
        steps = 1
        if self._level >= HALVING_FROM:  # every further step halves: go as far as the measurement says
            while steps < HALVINGS_AT_ONCE and use.part / 2**steps > ROOM and self._level + steps < last:
                steps += 1
            self._halved = use.part
        else:
            self._before = use.part
        self._step(self._level + steps, spent)
        return Decision("degraded", self.effort, f"{use.words}: {describe(self.effort, self._asked)}")

    def _more(self, use: _Use, spent: Spent) -> Decision | None:
        self._halved, self._in_vain = None, 0
        if self._level == 0 or use.part * self._factors.get(self._level, 2.0) > ROOM:
            self._room_since = None
            return None
        if self._room_since is None:
            self._room_since = spent.time
        if spent.time - self._room_since < self._wait:
            return None
        self._stepped_back = spent.time
        self._told_end = False
        self._step(self._level - 1, spent)
        now = describe(self.effort, self._asked) or "everything as asked for"
        room = re.sub(" is (over|close to) ", " leaves room below ", use.words)
        return Decision("restored", self.effort, f"{room}: {now}")

    def _step(self, level: int, spent: Spent) -> None:
        self._level = level
        self._seen.clear()
        self._seen.append(spent)
        self._room_since = None
        self._memory_at_step = spent.memory

    def _use(self, first: Spent, last: Spent) -> _Use:
        """The resource that takes the greatest part of its budget."""
        seconds = last.time - first.time
        uses = [_Use(0.0, "")]
        if self.budget.cpu is not None:
            share = (last.cpu_seconds - first.cpu_seconds) / seconds
            how = "over" if share > self.budget.cpu else "close to"
            words = f"CPU {share:.1%} of a core is {how} {self.budget.cpu * 100:g}%"
            uses.append(_Use(share / self.budget.cpu / AIM, words))
        if self.budget.disk_rate is not None:
            rate = (last.disk_bytes - first.disk_bytes) / seconds
            words = f"{format_size(rate)}/s to disk is over {format_size(self.budget.disk_rate)}/s"
            uses.append(_Use(rate / self.budget.disk_rate, words))
        if self.budget.memory is not None:
            part = last.memory / self.budget.memory
            # What memory a step frees shows late or not at all: only what still grows calls for another one.
            if part > 1 and self._level and last.memory <= self._memory_at_step * 1.02:
                part = 1.0
            words = f"memory {format_size(last.memory)} is over {format_size(self.budget.memory)}"
            uses.append(_Use(part, words))
        return max(uses, key=lambda use: use.part)
