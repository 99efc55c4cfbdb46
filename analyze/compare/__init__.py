"""`netrec analyze compare`: did it get worse, by how much, where; could this comparison have seen it?

    windows.py   the two windows that are compared, from folders or from times
    pairing.py   which hours of long windows are held against each other, and what follows from it
    measure.py   one window -> small frames (buckets, counts by stratum, histograms)
    cells.py     the narrow rows that SQL makes of a window, counted
    lookup.py    numbers by key for whole columns, instead of a join
    survival.py  SQL: how long connections live, those that the window cuts too
    explain.py   SQL: where a change comes from, new and vanished edges
    document.py  the outcome as an `analyze.answer.Answer`, as documented JSON and as JUnit XML

The statistics are `analyze.statistics.assessment` and what it rests on.
"""
