"""What netrec costs and how fast it answers, measured beside its peers on the machine at hand.

    make bench                                all, written to docs/benchmarks.md
    python -m benchmarks query_speed          one, on the terminal
    python -m benchmarks --list

A benchmark is a module in this package (or a folder below it) with a docstring, whose first line says what it
measures, and `run(options: Options) -> Report`; it is found by its file, nothing lists it. Absolute figures differ
from machine to machine: compare the ratios, which come from runs taken in turns, as medians.
"""
