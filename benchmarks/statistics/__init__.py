"""The ground truth of the statistics: every line's aim beside what is measured. `python -m benchmarks.statistics`."""
