"""Security: the random walk's rates, and a beacon against a Poisson host."""

from __future__ import annotations

import numpy as np
import polars as pl

from analyze.statistics import beacons, scans
from benchmarks.statistics.lines import Line, Outcome, Scale

DAY = 86_400.0


def walks(scale: Scale) -> Outcome:
    generator = np.random.default_rng(31)
    count, contacts = scale.runs(10_000, 1_000), 60
    shares = {}
    for kind, failing in (("scanner", scans.THETA_BENIGN), ("benign", 1 - scans.THETA_BENIGN)):
        failed = generator.random(count * contacts) < failing
        table = pl.DataFrame(
            {
                "source": np.repeat(np.arange(count), contacts),
                "destination": np.arange(count * contacts),
                "time": np.tile(np.arange(contacts), count),
                "failed": failed,
            }
        )
        shares[kind] = float((scans.threshold_random_walk(table)["verdict"] == "scanner").mean())
    slack = 0.002 if not scale.quick else 0.01
    holds = abs(shares["scanner"] - 0.996) <= slack and abs(shares["benign"] - 0.004) <= slack
    return Outcome(f"scanners {shares['scanner']:.2%}, benign {shares['benign']:.2%} flagged", holds)


def clockwork(scale: Scale) -> Outcome:
    generator = np.random.default_rng(32)
    least, most = 1.0, 0.0
    for _ in range(scale.runs(100, 10)):
        times = np.cumsum(60 * generator.uniform(0.9, 1.1, 1500))
        times = times[times < DAY]
        found = beacons.score(times, np.full(len(times), 512.0), 0, DAY)
        random = np.sort(generator.uniform(0, DAY, 1440))
        other = beacons.score(random, generator.lognormal(7, 1.0, 1440), 0, DAY)
        assert found is not None and other is not None
        least, most = min(least, found.score), max(most, other.score)
    return Outcome(f"beacon >= {least:.3f}, Poisson <= {most:.3f}", least >= 0.9 > most)


LINES = (
    Line("threshold random walk, 10k each", "scanners 99.6%, benign .4%", walks),
    Line("60 s beacon +-10%", ">= .9; a Poisson host below", clockwork),
)
