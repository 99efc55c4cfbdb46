"""`netrec analyze capacity`: what fills first, when, how sure; what fits after growth or losing hosts; what is billed.

    gauges.py    SQL: the host table -> each resource's use, limit and daily peaks
    traffic.py   SQL: flows -> rates, concurrency, bursts, port use and billing, from flows alone
    queueing.py  SQL: load beside queueing delay -> where delay bends upwards
    document.py  the outcome as an `analyze.answer.Answer`

The statistics are `analyze.statistics.outlook`, `forecast`, `extremes` and `capacity`.
"""
