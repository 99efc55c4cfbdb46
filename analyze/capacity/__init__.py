"""`netrec analyze capacity`: what fills first, when, how sure; what fits after growth or losing hosts; what is billed.

    gauges.py    SQL: the host table -> each resource's use, limit and daily peaks
    traffic.py   SQL: flows -> rates, bursts and billing, from flows alone
    services.py  SQL: flows of the busiest part -> services, concurrency and port use
    queueing.py  SQL: load beside queueing delay -> where delay bends upwards
    document.py  the outcome as an `analyze.answer.Answer`

The statistics are `analyze.statistics.outlook`, `forecast`, `extremes` and `capacity`.
"""
