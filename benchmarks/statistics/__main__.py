"""`python -m benchmarks.statistics`: every line of the ground truth, the aim beside what is measured.

Exit code 1 when a line does not hold. `--quick` simulates less (and allows for that); `--only TEXT` picks lines;
`--write FILE` writes the table as Markdown; with `--only`, rows of the other lines stay as the file has them. The whole
takes about seven minutes on two cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from benchmarks.statistics.lines import Line, Outcome, Scale

TITLE = """# Ground truth of the statistics

Written by `python -m benchmarks.statistics --write docs/statistics-ground-truth.md`. Everything is seeded: the same
command gives the same figures. "Published" are figures that others give for the same method; the others are
simulations whose truth is known.

"""


def tables() -> dict[str, tuple[Line, ...]]:
    """The lines by section."""
    from benchmarks.statistics import capacity_lines, comparison_lines, incident_lines, published_lines, security_lines

    return {
        "Published": published_lines.LINES,
        "Comparison": comparison_lines.LINES,
        "Incident": incident_lines.LINES,
        "Capacity": capacity_lines.LINES,
        "Security": security_lines.LINES,
    }


def main() -> int:
    """Measure the lines and print them as they come."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="simulate less")
    parser.add_argument("--only", metavar="TEXT", default="", help="only lines whose name or section holds this text")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown, too")
    given = parser.parse_args()
    scale = Scale(given.quick)
    kept = rows_of(given.write) if given.write and given.only else {}
    written, failed = [], 0
    for section, lines in tables().items():
        written += [f"## {section}", "", "| what | aim | measured | holds |", "| --- | --- | --- | --- |"]
        for line in lines:
            if given.only.lower() not in f"{section} {line.name}".lower():
                written += kept.get(line.name, [])
                continue
            began = time.monotonic()
            outcome = line.measure(scale)
            failed += not outcome.holds
            taken = time.monotonic() - began
            print(f"{verdict(outcome):3}  {section}: {line.name}\n     aim      {line.aim}", flush=True)
            print(f"     measured {outcome.measured}  [{taken:.1f} s]", flush=True)
            written.append(f"| {line.name} | {line.aim} | {outcome.measured} | {verdict(outcome)} |".replace("->", "→"))
        written.append("")
    print(f"{failed} lines do not hold" if failed else "no line fails")
    if given.write:
        about = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs."
        given.write.parent.mkdir(parents=True, exist_ok=True)
        text = TITLE + "\n".join([*written, about, ""])
        given.write.write_text(text, encoding="utf-8")
    return 1 if failed else 0


def rows_of(file: Path) -> dict[str, list[str]]:
    """The rows of a written table, by the line's name."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return {row.split(" | ")[0].removeprefix("| "): [row] for row in text.splitlines() if row.startswith("| ")}


def verdict(outcome: Outcome) -> str:
    """yes or NO."""
    return "yes" if outcome.holds else "NO"


if __name__ == "__main__":
    sys.exit(main())
