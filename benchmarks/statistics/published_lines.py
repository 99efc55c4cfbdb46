"""Figures that others have published for the same methods, reproduced from the inputs that they give for them.

The inputs are facts of the projects' own tests: Kayenta at a69573b, Apache Otava at 1ceb153, RITA at a3c5150.
"""

from __future__ import annotations

import itertools

from analyze.statistics import change_points
from analyze.statistics.effect_sizes import common_language_effect_size, rank_test
from analyze.statistics.slices import risk_ratio
from benchmarks.statistics import rita_lines
from benchmarks.statistics.lines import Line, Outcome, Scale, published


def kayenta(scale: Scale) -> Outcome:
    pairs = [published()["kayenta"][name] for name in ("high", "low")]
    measured = [common_language_effect_size(pair["control"], pair["experiment"]) for pair in pairs]
    measured += [
        common_language_effect_size([24.0, 25.0, 26.0], [2.0, 3.0, 4.0]),
        common_language_effect_size([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
    ]
    holds = abs(measured[0] - 0.771) <= 0.001 and abs(measured[1] - 0.12) < 1e-9 and measured[2:] == [0, 0.5]
    return Outcome(", ".join(f"{value:.3f}" for value in measured), holds)


def benchstat(scale: Scale) -> Outcome:
    apart = rank_test([1, 2, 3], [4, 5, 6]), rank_test([1, 2, 3, 4], [5, 6, 7, 8])
    # The third value belongs to every pair of samples of four whose U statistic is 5.
    third = {
        round(rank_test(first, sorted(set(range(1, 9)) - set(first))), 6)
        for first in itertools.combinations(range(1, 9), 4)
        if sum(first) - 10 == 5
    }
    holds = round(apart[0], 6) == 0.1 and round(apart[1], 6) == 0.028571 and third == {0.485714}
    return Outcome(f"{apart[0]:.6f}, {apart[1]:.6f}, {', '.join(f'{value:.6f}' for value in third)}", holds)


def macrobase(scale: Scale) -> Outcome:
    # (exposed inliers, exposed outliers, inliers, outliers): the four counts of the published examples.
    cases = (((10, 10, 100, 100), 1.0), ((10, 10, 1000, 100), 6.0), ((10, 99, 1000, 100), 900.08))
    measured = []
    for (inside_before, inside, before, now), _ in cases:
        total = inside_before + inside
        measured.append(risk_ratio(inside, total, now - inside, before + now - total))
    holds = all(abs(value - aim) <= 0.01 for value, (_, aim) in zip(measured, cases, strict=True))
    return Outcome(", ".join(f"{value:.2f}" for value in measured), holds)


def otava(scale: Scale) -> Outcome:
    series = published()["otava"]
    found = [change_points.detect(one) for one in series]
    lengths = ", ".join(f"{points} of {len(one)}" for points, one in zip(found, series, strict=True))
    return Outcome(f"{lengths} points", found == [[10], [5, 8]])


LINES = (
    Line("Kayenta's effect sizes", ".771 +-.001, .12, 0, .5", kayenta),
    Line("benchstat's p-values (3v3, 4v4, 4v4)", ".1, .028571, .485714", benchstat),
    Line("MacroBase's risk ratios", "1.0, 6.0, 900.08", macrobase),
    Line("Otava's steps", "[10] and [5, 8]", otava),
    *rita_lines.LINES,
)
