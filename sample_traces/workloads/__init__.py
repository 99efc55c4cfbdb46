"""The workloads of the sample traces: one module each, see `sample_traces.sample`."""
