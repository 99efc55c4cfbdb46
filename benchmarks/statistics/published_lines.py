"""Figures that others have published for the same methods, reproduced.

What needs somebody else's test data reads it from a folder of their sources, unpacked or as git clones
(`--published FOLDER`, with kayenta/, otava/ and rita/ in it); such data are not part of this repository.
"""

from __future__ import annotations

import itertools
import re

import numpy as np

from analyze.statistics import change_points
from analyze.statistics.effect_sizes import common_language_effect_size, rank_test
from analyze.statistics.slices import risk_ratio
from benchmarks.statistics import rita_lines
from benchmarks.statistics.lines import MISSING, Line, Outcome, Scale, published

KAYENTA = "kayenta-judge/src/test/scala/com/netflix/kayenta/judge/StatisticSuite.scala"
OTAVA = ("tests/analysis_test.py", "tests/change_point_divisive_test.py")


def kayenta(scale: Scale) -> Outcome:
    simple = [
        common_language_effect_size([24.0, 25.0, 26.0], [2.0, 3.0, 4.0]),
        common_language_effect_size([1, 2, 3, 4, 5], [1, 2, 3, 4, 5]),
    ]
    text = published(scale, "kayenta", KAYENTA)
    if text is None:
        return Outcome(
            f"{simple[0]:.3f}, {simple[1]:.3f}; .771 and .12 {MISSING}", None if simple == [0, 0.5] else False
        )
    found = {}
    for name in ("High Metric", "Low Metric"):
        part = text.decode().split(f'CLES Effect Size: {name}"')[1].split("val result")[0]
        arrays = [
            np.array(re.findall(r"\d+\.\d+", block), dtype=float) for block in re.findall(r"Array\((.*?)\)", part, re.S)
        ]
        experiment, control = arrays[0], arrays[1]
        found[name] = common_language_effect_size(control, experiment)
    measured = (found["High Metric"], found["Low Metric"], *simple)
    holds = abs(measured[0] - 0.771) <= 0.001 and abs(measured[1] - 0.12) < 1e-9 and simple == [0, 0.5]
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
    texts = [published(scale, "otava", path) for path in OTAVA]
    if texts[0] is None or texts[1] is None:
        generator = np.random.default_rng(41)
        twenty = np.concatenate([generator.normal(1.0, 0.04, 10), generator.normal(0.5, 0.02, 10)])
        fourteen = np.concatenate([generator.normal(level, 1.0, n) for level, n in ((0, 5), (99, 3), (149.5, 6))])
        found = change_points.detect(twenty), change_points.detect(fourteen)
        holds = None if found == ([10], [5, 8]) else False
        return Outcome(f"{found[0]}, {found[1]} on series of that shape; the published ones {MISSING}", holds)
    twenty = _numbers(texts[0].decode().split("def test_single_series():")[1].split("]")[0])
    fourteen = _numbers(texts[1].decode().split("SEQUENCE = np.array([")[1].split("]")[0])
    found = change_points.detect(twenty), change_points.detect(fourteen)
    return Outcome(f"{found[0]} of {len(twenty)} points, {found[1]} of {len(fourteen)}", found == ([10], [5, 8]))


def _numbers(text: str) -> np.ndarray:
    return np.array(re.findall(r"-?\d+\.\d+", text), dtype=float)


LINES = (
    Line("Kayenta's effect sizes", ".771 +-.001, .12, 0, .5", kayenta),
    Line("benchstat's p-values (3v3, 4v4, 4v4)", ".1, .028571, .485714", benchstat),
    Line("MacroBase's risk ratios", "1.0, 6.0, 900.08", macrobase),
    Line("Otava's steps", "[10] and [5, 8]", otava),
    *rita_lines.LINES,
)
