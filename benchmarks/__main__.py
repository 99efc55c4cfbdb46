"""Runs the benchmarks: `python -m benchmarks [NAME ...] [--json] [--write FILE] [--quick] [--large] [--list]`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import benchmarks
from benchmarks.harness import Options, PeerMissing, Report, end_by_signals, ended, number


def discover() -> dict[str, ModuleType]:
    """Every benchmark by its name: the path below `benchmarks`, with dots."""
    found: dict[str, ModuleType] = {}
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
        if module.ispkg or module.name == "benchmarks.__main__":
            continue
        loaded = importlib.import_module(module.name)
        if callable(getattr(loaded, "run", None)) and getattr(loaded, "BENCHMARK", True):
            found[module.name.removeprefix("benchmarks.")] = loaded
    return dict(sorted(found.items()))


def summary(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().splitlines()[0]


def as_markdown(report: Report) -> str:
    lines = ["| " + " | ".join(report.columns) + " |", "|" + " --- |" * len(report.columns)]
    lines += ["| " + " | ".join(number(cell) for cell in row) + " |" for row in report.rows]
    lines += ["", *(f"- {target.text()}" for target in report.targets)]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def as_text(report: Report) -> str:
    table = [list(report.columns), *([number(cell) for cell in row] for row in report.rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(report.columns))]
    lines = [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in table)
    ]
    lines += [target.text() for target in report.targets] + report.notes
    return "\n".join(lines)


def machine() -> str:
    """One line about where the figures come from."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}"


def page(reports: dict[str, tuple[ModuleType, Report]]) -> str:
    parts = [
        "# Benchmarks\n",
        "Written by `make bench`; do not edit. Absolute figures belong to the machine, and to how busy it was; the "
        "ratios come from runs taken in turns and are medians.\n",
        f"Machine: {machine()}. Date: {time.strftime('%Y-%m-%d', time.gmtime())}.\n",
    ]
    for name, (module, report) in reports.items():
        parts += [f"## {summary(module)}\n", f"`python -m benchmarks {name}`\n", as_markdown(report)]
    return "\n".join(parts)


def place(text: str, reports: dict[str, tuple[ModuleType, Report]]) -> str | None:
    """A page of text with these figures between its markers `<!-- NAME -->` and `<!-- end of NAME -->`.

    None: it has no markers for any of them.
    """
    found = False
    for name, (_, report) in reports.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, opened, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            continue
        found = True
        if len(report.columns) > 1:  # one that did not run changes nothing
            date = time.strftime("%Y-%m-%d", time.gmtime())
            text = f"{before}{begin}\n{as_markdown(report)}- {machine()}; {date}\n\n{end}{after}"
    return text if found else None


def run_one(name: str, run: Callable[[Options], Report], options: Options) -> Report:
    """A benchmark that cannot run here still yields a report, which says why."""
    start = time.monotonic()
    try:
        report = run(options)
        ended()
    except PeerMissing as missing:
        report = Report(["result"], notes=[f"not run: {missing}"])
    except Exception as problem:
        ended()
        report = Report(["result"], notes=[f"failed: {type(problem).__name__}: {problem}"])
    print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=benchmarks.__doc__)
    parser.add_argument("names", nargs="*", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="name the benchmarks and end")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE",
        help="also write the results as a page, or into one that has markers for them",
    )
    parser.add_argument("--quick", action="store_true", help="tiny workloads, to see that everything works")
    parser.add_argument("--large", action="store_true", help="also the workloads that need gigabytes of disk")
    arguments = parser.parse_args()
    known = discover()
    if arguments.list:
        for name, module in known.items():
            print(f"{name}: {summary(module)}")
        return 0
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}: they are {', '.join(known)}")
    end_by_signals()
    reports: dict[str, tuple[ModuleType, Report]] = {}
    for name in arguments.names or known:
        report = run_one(name, known[name].run, Options(arguments.quick, arguments.large))
        reports[name] = (known[name], report)
        if not arguments.json:
            print(f"\n{summary(known[name])}\n\n{as_text(report)}\n", flush=True)
    if arguments.json:
        print(json.dumps({name: report.as_dict() for name, (_, report) in reports.items()}, indent=1))
    if arguments.write:
        text = arguments.write.read_text() if arguments.write.exists() else ""
        arguments.write.write_text(place(text, reports) or page(reports))
    failed = [name for name, (_, report) in reports.items() if any(note.startswith("failed:") for note in report.notes)]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
