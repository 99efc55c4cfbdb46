"""The statistics of the analysis: arrays and frames in, frames and dataclasses out, no input or output.

Comparison: batch_t, rare_events, thin_quantiles, differences, metrics, mix, comparison, quality, multiple_testing,
quantiles, durations, effect_sizes. Incident: change_points, slices, patterns, known_patterns. Capacity: capacity,
forecast, extremes.
Security: scans, beacons, anomalies. Each is held against its ground truth by `python -m benchmarks.statistics`.
"""
