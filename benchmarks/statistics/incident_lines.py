"""Incidents: change points, planted slices, and the known patterns through the whole of `netrec analyze incident`."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from analyze.statistics import change_points, slices
from benchmarks.statistics import incident_traces
from benchmarks.statistics.lines import Line, Outcome, Scale, autoregressive, percent

BUCKETS = 288


def steady(scale: Scale) -> Outcome:
    texts, worst = [], 0.0
    for rho in (0.0, 0.3, 0.6):
        series = autoregressive(np.random.default_rng(11), scale.runs(500, 60), BUCKETS, rho)
        false = float(np.mean([bool(change_points.detect(one)) for one in series]))
        worst = max(worst, false)
        texts.append(f"{percent(false)} (rho {rho})")
    return Outcome(", ".join(texts), worst <= 0.02)


def step(scale: Scale) -> Outcome:
    generator = np.random.default_rng(12)
    series = autoregressive(generator, scale.runs(500, 60), BUCKETS, 0.6)
    hits = 0
    for one in series:
        place = int(generator.integers(60, BUCKETS - 60))
        one[place:] += 2.0
        hits += any(abs(found - place) <= 5 for found in change_points.detect(one))
    return Outcome(percent(hits / len(series)), hits / len(series) >= 0.80)


def traffic(generator: np.random.Generator, ratio: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """12,000 flows of 20 servers and 40 clients in 60 buckets; one server fails `ratio` times as often."""
    count = 12_000
    frame = pl.DataFrame(
        {
            "bucket": generator.integers(0, 60, count),
            "server": [f"s{number}" for number in generator.integers(0, 20, count)],
            "client": [f"c{number}" for number in generator.integers(0, 40, count)],
        }
    )
    risk = np.where((frame["server"] == "s7").to_numpy(), 0.05 * ratio, 0.05)
    frame = frame.with_columns(bad=pl.Series((generator.random(count) < risk).astype(np.int64)), total=pl.lit(1))
    rows, buckets = [], []
    for dimension in ((), ("server",), ("client",), ("client", "server")):
        value = pl.concat_str([pl.col(name) for name in dimension], separator=" -> ") if dimension else pl.lit("")
        keyed = frame.with_columns(dimension=pl.lit(" + ".join(dimension)), value=value)
        buckets.append(keyed.group_by("dimension", "value", "bucket").agg(pl.col("bad", "total").sum()))
        rows.append(keyed.group_by("dimension", "value").agg(pl.col("bad", "total").sum()))
    usual = generator.binomial(1, 0.05, count).mean()
    table = pl.concat(rows).with_columns(baseline_bad=pl.col("total") * usual, baseline_total=pl.col("total"))
    return table, pl.concat(buckets)


def planted(scale: Scale) -> Outcome:
    runs, first, noise = scale.runs(200, 20), 0, 0
    for seed in range(runs):
        table, buckets = traffic(np.random.default_rng([13, seed]), 3.0)
        ranked = slices.confirm(slices.rank(table), buckets)
        first += ranked.height > 0 and ranked["value"][0] == "s7"
        table, buckets = traffic(np.random.default_rng([14, seed]), 1.0)
        noise += slices.confirm(slices.rank(table), buckets).height > 0
    return Outcome(
        f"rank 1 in {percent(first / runs)}; null {percent(noise / runs)}",
        first / runs >= 0.95 and noise / runs <= 0.05,
    )


def review(job: tuple[str | None, int]) -> tuple[str | None, list[str]]:
    """One invented trace through the whole review; the patterns that it names, the first first."""
    from analyze.incident import explain, series
    from analyze.incident.windows import Span
    from analyze.options import Session

    pattern, seed = job
    with tempfile.TemporaryDirectory() as folder:
        incident_traces.make(Path(folder), pattern, seed)
        session = Session(traces=(folder,), utc=True)
        scan = session.open()
        scan.require("flows")
        extent = series.extent(scan)
        assert extent is not None
        found, _, _ = explain.run(session, scan, Span(*extent), None, None, None)
        return pattern, [entry.pattern.name for entry in found.matches] if found else []


def patterns(scale: Scale) -> Outcome:
    seeds, clean = scale.runs(20, 1), scale.runs(200, 3)
    jobs = [(name, seed) for name in incident_traces.PATTERNS for seed in range(seeds)]
    jobs += [(None, seed) for seed in range(clean)]
    # One thread a process: the reviews are many and small, and the pool runs one on each CPU.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(name, "1")
    with multiprocessing.get_context("spawn").Pool(min(4, os.cpu_count() or 1)) as pool:
        results = pool.map(review, jobs, chunksize=4)
    # A review names what fits best; the others that fit are shown below it.
    named = [(truth, found) for truth, found in results if found]
    truths = [(truth, found) for truth, found in results if truth]
    top = sum(found[0] == truth for truth, found in named if truth)
    recall = sum(truth in found for truth, found in truths) / len(truths)
    precision = top / len(named) if named else 0.0
    first = top / len(truths)
    alarms = sum(bool(found) for truth, found in results if not truth)
    missed = sorted(
        {f"{truth}->{found[0] if found else 'none'}" for truth, found in truths if not found or found[0] != truth}
    )
    text = f"precision {precision:.3f}, recall {recall:.3f}, top-1 {first:.3f}; clean {alarms}/{clean} named"
    if missed:
        text += f" ({', '.join(missed)})"
    return Outcome(text, precision >= 0.9 and recall >= 0.95 and first >= 0.9)


LINES = (
    Line("change points, null, n=288, rho 0-.6", "<= 2% of series", steady),
    Line("2-sigma step, rho .6", ">= 80% within 5 buckets", step),
    Line("planted slice, risk ratio 3, support 5%", "rank 1 in >= 95%; null <= 5%", planted),
    Line("11 patterns x 20 seeds + 200 clean", "precision >= .9, recall >= .95, top-1 >= .9", patterns),
)
