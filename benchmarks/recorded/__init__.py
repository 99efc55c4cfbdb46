"""The analyses on what was recorded from real workloads, anew each time: the same mechanism as the sample traces.

incident_workloads.py   incidents, beside those that are sample traces
recording.py            records them, several at a time
incidents.py            python -m benchmarks recorded.incidents: the right pattern first, and none on clean windows
"""
