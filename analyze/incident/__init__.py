"""`netrec analyze incident`: when it began and ended, what moved first, where, which known pattern, who was involved.

    series.py     SQL: time buckets of a trace -> one series a metric
    windows.py    the window to explain, asked for or found, and its baseline
    signals.py    SQL: the two windows -> the measurements that the patterns look at
    slices.py     SQL: where the leading symptom is concentrated
    document.py   the outcome as an `analyze.answer.Answer`
    bundle.py     the evidence as one file that another engineer can open and re-run
    evidence.py   checking such a file against its hashes, for `netrec verify`

The statistics are `analyze.statistics.timeline`, `patterns`, `change_points` and `slices`.
"""
