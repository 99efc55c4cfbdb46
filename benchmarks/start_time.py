"""Time of the smallest commands, whole process: what a user waits before anything happens."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from benchmarks.harness import NETREC, Options, Report, Target, in_turns, measure, median, spread

ROUNDS = 15
LIMIT = 0.15


def _wall(command: Sequence[str]) -> float:
    return measure(command).wall


def run(options: Options) -> Report:
    commands = {
        "netrec --help": [NETREC, "--help"],
        "netrec record --help": [NETREC, "record", "--help"],
        "netrec analyze --help": [NETREC, "analyze", "--help"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    ways = {name: partial(_wall, command) for name, command in commands.items()}
    taken = in_turns(ways, options.size(ROUNDS, 2))
    report = Report(["command", "seconds, median", "lowest..highest"])
    report.rows = [[name, median(values), spread(values)] for name, values in taken.items()]
    report.targets.append(Target("netrec --help, whole process", median(taken["netrec --help"]), LIMIT, "s"))
    return report
