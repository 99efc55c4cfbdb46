"""A sample is one module in `sample_traces/workloads`: a workload, what to record of it, what is known, a README.

Its `SAMPLE` is a `Sample`; `make samples` finds it by its file. `play` sets the stage, records one or several traces
and notes in `stage.known[trace]` what the workload itself counted, and the `answers` that the analyses must give.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sample_traces import workloads
from sample_traces.own_rows import lost
from sample_traces.stage import Stage

HEAD = """# {name}

{title}. Recorded by `sample_traces/workloads/{module}.py` (`make samples`); do not edit.

"""
TAIL = """
Other things ran on the recording host: rows outside the workload's own networks, and the gauges of the whole machine
(processors, memory), were left out. `known.json` holds what is known, and the tests compare it with the trace and with
what the analyses answer.
"""


@dataclass(frozen=True)
class Sample:
    """`number` picks its networks (10.<number>.0.0/16); `traces` are its folders, each with what is in it.

    `readme` is Markdown that `known` of the trace fills (`str.format`); it comes between a title and a closing note.
    A workload that is no sample has none.
    """

    number: int
    traces: dict[str, str]
    play: Callable[[Stage], None]
    readme: str = ""


def discover() -> dict[str, Sample]:
    """Every sample by the name of its module."""
    names = sorted(module.name for module in pkgutil.iter_modules(workloads.__path__))
    return {name: importlib.import_module(f"{workloads.__name__}.{name}").SAMPLE for name in names}


def play(sample: Sample, output: Path) -> dict[str, dict[str, Any]]:
    """Record a workload's traces below `output`, each with its `known.json`; what is known, by trace."""
    with Stage(sample.number, output) as stage:
        sample.play(stage)
    for name in sample.traces:
        (output / name / "known.json").write_text(json.dumps(stage.known[name], indent=1) + "\n")
    return stage.known


def record(module: str, sample: Sample, output: Path) -> None:
    """Record a sample's traces below `output`, and explain each in a README.

    Raises `RuntimeError` when the recorder lost anything: then the trace is not fit to be a sample.
    """
    for name, known in play(sample, output).items():
        if lost(output / name):
            raise RuntimeError(f"{name}: the recorder lost events: record again when the host is less busy")
        title = sample.traces[name]
        head = HEAD.format(name=name, title=title[0].upper() + title[1:], module=module)
        (output / name / "README.md").write_text(head + sample.readme.format(**known).strip() + "\n" + TAIL)
