"""`netrec analyze security`: scans, beacons, new peers, unusual volume. Findings with their evidence, never verdicts.

    contacts.py  SQL: who contacted whom first, and whether it failed -> scans and fan-out
    regular.py   SQL: the contact times of a pair -> beacons
    unusual.py   SQL: what is new lately, and what is much against its own history

The statistics are `analyze.statistics.scans`, `beacons` and `anomalies`.
"""
