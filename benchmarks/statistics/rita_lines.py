"""RITA's published scores: the vectors of its unit tests, and the six pairs of its integration tests.

The vectors are facts (inputs and results) of activecm/rita, version 5, and hold to the 0.001 that its own tests allow.
Of the six pairs two are recomputed whole, from the moments and sizes of the proxy logs in its repository, and one
in three of four parts, from its web log. The other three come from connection and TLS logs that no copy at hand
holds: of these only the mean of the published parts is checked (www.alexa.com's is .852: RITA's own tests allow the
scores of pairs +-0.05).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyze.statistics import beacons
from benchmarks.statistics.lines import Line, Outcome, Scale, published

DAY = 86_400
ROUNDING, PAIR_TOLERANCE = 0.001, 0.05

# Intervals in seconds -> timing score; sizes in bytes -> size score.
TIMING = (
    ([1.0] * 9, 1.0), ([60.0] * 9, 1.0), ([98, 99, 99, 100, 100, 100, 101, 101, 102], 0.995), ([98, 300] * 5, 0.746),
    ([1, 299, 25, 4975, 90, 2, 42, 500, 1500], 0.083), ([7, 8, 7, 8, 7, 8, 7, 8, 7], 1.0),
)  # fmt: skip
SIZE = (
    (list(range(1, 11)), 0.773), ([60.0] * 9, 1.0), ([98, 99, 99, 100, 100, 100, 101, 101, 102], 0.995),
    ([524885, 1, 5000, 98654, 50, 41, 965842, 3], 0.008), ([0.0] * 10, 0.5),
)  # fmt: skip
# First and last contact in hours of a day, active hours, longest run of them -> duration score.
DURATION = (
    (0, 24, 24, 24, 1.0), (0, 24, 6, 1, 1.0), (12, 24, 6, 1, 0.5), (0, 12, 6, 1, 0.5), (6, 24, 6, 1, 0.75),
    (12, 24, 12, 12, 1.0), (12, 18, 6, 6, 0.5), (6, 18, 12, 6, 0.5), (6, 18, 3, 1, 0.0),
)  # fmt: skip
# Contacts per bin, bins from which two heights are looked for -> histogram score.
HISTOGRAM = (
    (list(range(1, 11)), 6, 0.478), ([1] * 24, 11, 1.0), ([1, 0, 2, 0, 3, 0, 2, 1], 6, 0.064),
    ([7, 2, 1, 0, 0, 1, 0, 0, 0, 1], 6, 0.0), ([4, 1] * 5, 6, 1.0), ([2, 0, 3, 0, 1], 6, 0.028),
    ([10] + [0] * 23, 11, 0.0), ([950, 970, 990, 1010, 1030, 1050, 1070], 11, 0.96),
    (list(range(1000, 1010)), 11, 0.997),
    ([1, 5, 10, 50, 100, 500, 1000, 5000, 10000], 11, 0.0),
    ([1] * 50 + [2] * 5 + [3] * 5, 10, 0.932), ([1] * 50 + [2, 3, 4, 5, 6, 7], 10, 0.927),
    ([1] * 50 + [2] * 30 + [3] + [4] * 2, 10, 0.976), ([1] * 50 + [2] * 30 + [3] + [4] * 2 + [5], 10, 0.964),
)  # fmt: skip
# Contacts per bin -> longest run, around the end.
RUNS = (
    ([2, 0, 3, 0, 1], 2), ([1, 0, 2, 0, 3, 0, 2, 1], 3), ([7, 2, 1, 0, 0, 1, 0, 0, 0, 1], 4), ([4, 1] * 5, 10),
)  # fmt: skip

# Pair: timing, size, duration, histogram -> score, as published.
PAIRS = {
    "10.55.100.111 to 165.227.216.194": ((1.0, 1.0, 1.0, 1.0), 1.0),
    "tile-service.weather.microsoft.com": ((1.0, 0.998, 1.0, 1.0), 1.0),
    "www.alexa.com": ((0.999, 0.47, 1.0, 0.937), 0.896),
    "www.bankofamerica.com": ((0.407, 0.632, 0.823, 0.0), 0.465),
    "www.honestimnotevil.com": ((0.921, 0.995, 1.0, 1.0), 0.979),
    "www.google.com": ((0.48, 0.865, 1.0, 0.0), 0.586),
}


def vectors(scale: Scale) -> Outcome:
    """Every vector: the largest difference to what RITA's tests expect."""
    worst = 0.0
    for values, expected in TIMING:
        worst = max(worst, abs(beacons.regularity(np.sort(np.array(values, dtype=float)), 1.0) - expected))
    for values, expected in SIZE:
        worst = max(worst, abs(beacons.regularity(np.sort(np.array(values, dtype=float)), 0.0) - expected))
    for first, last, active, run, expected in DURATION:
        counts = _hours(active, run)
        found = beacons.duration_score(np.array([first, last]) * 3600.0, counts, 0, DAY)
        worst = max(worst, abs(found - expected))
    for counts, least, expected in HISTOGRAM:
        worst = max(worst, abs(beacons.histogram_score(np.array(counts), least) - expected))
    runs = all(beacons.longest_run(np.array(counts)) == expected for counts, expected in RUNS)
    number = len(TIMING) + len(SIZE) + len(DURATION) + len(HISTOGRAM) + len(RUNS)
    return Outcome(f"{number} vectors, largest difference {worst:.4f}", runs and worst <= ROUNDING + 1e-9)


def pairs(scale: Scale) -> Outcome:
    """The six pairs: the mean of the published parts, and the parts anew where their contacts are known."""
    gaps = [abs(float(np.mean(parts)) - score) for parts, score in PAIRS.values()]
    holds, texts = max(gaps) <= PAIR_TOLERANCE, []
    for name, contacts in published()["rita"].items():
        found, expected = _parts(contacts), PAIRS[name][0]
        if len(found) < len(expected):
            expected = (expected[0], *expected[2:])
        worst = max(abs(one - other) for one, other in zip(found, expected, strict=True))
        holds &= worst <= PAIR_TOLERANCE
        mean = PAIRS[name][1] if len(found) < 4 else float(np.mean(found))
        texts.append(f"{name} {mean:.3f} ({len(found)} parts, within {worst:.3f})")
    rest = len(PAIRS) - len(texts)
    texts.append(f"of {rest} pairs, whose logs are too large, the mean of the published parts, within {max(gaps):.3f}")
    return Outcome("; ".join(texts), holds)


def _parts(contacts: dict[str, Any]) -> tuple[float, ...]:
    """Timing, size (where sizes are known), duration and histogram over RITA's window: a day to the last contact, its
    first hour whole.
    """
    start, end = contacts["start"], contacts["end"]
    moments = start + np.array(contacts["moments"])
    # What comes before the window's start counts in its first hour.
    counts = beacons.hourly_counts(np.clip(moments, start, end), start, end)
    intervals = np.diff(moments)
    sizes = contacts.get("sizes")
    return (
        beacons.regularity(np.sort(intervals[intervals > 0]), 1.0),
        *([beacons.regularity(np.sort(np.array(sizes, dtype=float)), 0.0)] if sizes else []),
        beacons.duration_score(moments, counts, start, end),
        beacons.histogram_score(counts),
    )


def _hours(active: int, run: int) -> NDArray[np.int64]:
    """A day with so many active hours, so many of them in a row."""
    counts = np.zeros(24, dtype=np.int64)
    counts[:run] = 1
    counts[run + 1 : run + 1 + 2 * (active - run) : 2] = 1
    return counts


LINES = (
    Line("RITA's vectors of timing, size, duration and histogram", "+-0.001 each", vectors),
    Line("RITA's scores of six pairs", "1, 1, .896, .465, .979, .586 +-.05", pairs),
)
