"""Change points, slices and patterns against slow versions, published figures and the null."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import ruptures
from scipy.signal import lfilter
from scipy.stats import fisher_exact, hypergeom
from scipy.stats.contingency import relative_risk

from analyze.statistics import change_points, patterns, slices
from analyze.statistics.known_patterns import PATTERNS


def autoregressive(n: int, rho: float, generator: np.random.Generator) -> np.ndarray:
    return lfilter([1], [1, -rho], generator.standard_normal(n + 200) * np.sqrt(1 - rho**2))[200:]


def slow_segmentation(values: np.ndarray, penalty: float, least: int) -> list[int]:
    """Optimal partitioning by trying every last cut."""
    n = len(values)
    best: list[tuple[float, list[int]]] = [(-penalty, [])] + [(math.inf, [])] * n
    for stop in range(least, n + 1):
        for start in [0, *range(least, stop - least + 1)]:
            part = values[start:stop]
            cost = best[start][0] + ((part - part.mean()) ** 2).sum() + penalty
            if len(part) >= least and cost < best[stop][0] - 1e-12:
                best[stop] = (cost, [*best[start][1], start] if start else [])
    return best[n][1]


def squared_error(values: np.ndarray, cuts: list[int]) -> float:
    return sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(values, cuts))


@pytest.mark.parametrize("seed", range(5))
def test_penalised_segmentation_is_the_optimal_partition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(60)
    values[20:] += 3
    values[41:] -= 2
    assert change_points.penalised_segmentation(values, 10.0, 3) == slow_segmentation(values, 10.0, 3)


@pytest.mark.parametrize("n", [12, 40, 127, 128, 131, 400])
def test_segmentations_are_those_of_ruptures(n: int) -> None:
    generator = np.random.default_rng(n)
    for _ in range(5):
        values = autoregressive(n, 0.3, generator)
        for start in generator.integers(0, n, 3):
            values[start:] += 2 * generator.standard_normal()
        for penalty in (1.0, 10.0, 1e6):
            search = ruptures.KernelCPD(kernel="linear", min_size=3).fit(values.reshape(-1, 1))
            own, other = change_points.penalised_segmentation(values, penalty, 3), search.predict(pen=penalty)[:-1]
            # The pruning of ruptures can miss the least by a little where a segment's least length binds.
            gain = squared_error(values, other) - squared_error(values, own) + penalty * (len(other) - len(own))
            assert own == other or gain > 1e-9
        most = min(4, n // 5 - 1)
        search = ruptures.KernelCPD(kernel="linear", min_size=5).fit(values.reshape(-1, 1))
        expected = [search.predict(n_bkps=number)[:-1] for number in range(1, most + 1)]
        assert change_points.best_segmentations(values, most, 5) == expected


def test_hypergeometric_tail_is_that_of_scipy() -> None:
    generator = np.random.default_rng(3)
    for _ in range(300):
        whole = int(10 ** generator.uniform(0.5, 7))
        marked, drawn = (int(whole * 10 ** generator.uniform(-4, 0)) for _ in range(2))
        mean = drawn * marked / whole
        least = round(mean + 4 * generator.standard_normal() * math.sqrt(mean + 1))
        expected = float(hypergeom.sf(least - 1, whole, marked, drawn))
        found = slices.hypergeometric_tail(least, drawn, marked, whole)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-200), (least, drawn, marked, whole)


def test_a_step_of_twenty_points_and_two_of_fourteen() -> None:
    generator = np.random.default_rng(2)
    twenty = np.concatenate([generator.normal(1.0, 0.05, 10), generator.normal(0.5, 0.03, 10)])
    assert change_points.detect(twenty) == [10]
    fourteen = np.concatenate([generator.normal(level, 1.0, n) for level, n in ((0, 5), (99, 3), (149.5, 6))])
    assert change_points.detect(fourteen) == [5, 8]


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_steady_series_have_no_change_point(rho: float) -> None:
    generator = np.random.default_rng(4)
    assert sum(bool(change_points.detect(autoregressive(288, rho, generator))) for _ in range(60)) <= 1


def test_interval_holds_the_true_moment() -> None:
    generator = np.random.default_rng(5)
    held = 0
    for _ in range(40):
        values = autoregressive(200, 0.3, generator)
        values[120:] += 2.5
        held += any(point.low <= 120 <= point.high for point in change_points.change_points(values))
    assert held >= 34


def test_short_constant_and_gappy_series() -> None:
    assert change_points.detect([1.0] * 100) == []
    assert change_points.detect([1.0, 5.0]) == []
    assert change_points.detect([]) == []
    series = np.concatenate([np.zeros(30), np.full(30, 9.0)]) + np.random.default_rng(1).normal(0, 0.1, 60)
    series[[3, 4, 40]] = np.nan
    assert change_points.detect(series) == [30]


@pytest.mark.parametrize(
    ("inside_before", "inside_now", "before", "now", "expected"),
    [(10, 10, 100, 100, 1.0), (10, 10, 1000, 100, 6.0), (10, 99, 1000, 100, 900.082)],
)
def test_published_risk_ratios(inside_before: int, inside_now: int, before: int, now: int, expected: float) -> None:
    total = inside_before + inside_now
    ratio = slices.risk_ratio(inside_now, total, now - inside_now, before + now - total)
    assert ratio == pytest.approx(expected, abs=0.01)


def test_katz_interval_is_scipys() -> None:
    oracle = relative_risk(30, 100, 40, 400).confidence_interval(0.95)
    assert slices.katz_interval(30, 100, 40, 400) == pytest.approx((oracle.low, oracle.high), rel=1e-4)
    assert slices.risk_ratio(5, 100, 0, 100) == math.inf
    assert slices.katz_interval(5, 100, 0, 100)[1] < math.inf


def test_fisher_is_scipys() -> None:
    got = slices._fisher(np.array([12.0]), np.array([40.0]), 50.0, 400.0)[0]
    assert got == pytest.approx(fisher_exact([[12, 28], [38, 322]], alternative="greater").pvalue)


def traffic(generator: np.random.Generator, ratio: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    n = 6000
    frame = pl.DataFrame(
        {
            "bucket": generator.integers(0, 60, n),
            "server": [f"s{i}" for i in generator.integers(0, 20, n)],
            "client": [f"c{i}" for i in generator.integers(0, 30, n)],
        }
    )
    planted = (frame["server"] == "s7").to_numpy()
    risk = np.where(planted, 0.05 * ratio, 0.05)
    frame = frame.with_columns(bad=(generator.random(n) < risk).astype(np.int64), total=1)
    rows, buckets = [], []
    for dimension in ("", "server", "client"):
        value = pl.lit("") if not dimension else pl.col(dimension)
        keyed = frame.with_columns(dimension=pl.lit(dimension), value=value)
        buckets.append(keyed.group_by("dimension", "value", "bucket").agg(pl.col("bad", "total").sum()))
        rows.append(keyed.group_by("dimension", "value").agg(pl.col("bad", "total").sum()))
    table = pl.concat(rows).with_columns(
        baseline_bad=(pl.col("total") * 0.05).round().cast(pl.Int64), baseline_total="total"
    )
    return table, pl.concat(buckets)


def test_planted_slice_comes_first_and_noise_has_none() -> None:
    first, noise = 0, 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        table, buckets = traffic(generator, 3.0)
        ranked = slices.confirm(slices.rank(table), buckets)
        first += ranked.height > 0 and ranked["value"][0] == "s7"
        table, buckets = traffic(generator, 1.0)
        noise += slices.confirm(slices.rank(table), buckets).height > 0
    assert first >= 19
    assert noise <= 2


def test_a_slice_that_was_always_bad_explains_nothing() -> None:
    table = pl.DataFrame(
        [("", "", 200, 1000, 100, 1000), ("server", "old", 90, 100, 90, 100), ("server", "new", 105, 100, 5, 100)],
        schema=["dimension", "value", *slices.COUNTS], orient="row",
    ).with_columns(pl.col("bad").clip(upper_bound=pl.col("total")))  # fmt: skip
    assert slices.rank(table)["value"].to_list() == ["new"]


def test_slices_of_nothing() -> None:
    table = pl.DataFrame([("", "", 0, 0, 0, 0)], schema=["dimension", "value", *slices.COUNTS], orient="row")
    assert slices.rank(table).is_empty()
    with pytest.raises(ValueError, match="whole traffic"):
        slices.rank(table.head(0))


def test_patterns_need_two_signals_and_name_what_is_missing() -> None:
    assert patterns.match({}, PATTERNS) == []
    one = {"retry_connect_share": 0.2, "retry_connect_share_before": 0.0}
    assert patterns.match(one, PATTERNS) == []
    found = patterns.match({**one, "retry_top_server_share": 0.95}, PATTERNS)
    assert found[0].pattern.name == "accept-queue"
    assert found[0].missing == ("listen queue overflowed",)
    full = patterns.match({**one, "retry_top_server_share": 0.95, "listen_overflows": 40.0}, PATTERNS)
    assert full[0].score > found[0].score
    assert full[0].summary == "accept-queue overflow (3/3 signals)"


def test_a_contradicted_vital_signal_rules_a_pattern_out() -> None:
    signals = {"retry_connect_share": 0.2, "retry_top_server_share": 0.3, "listen_overflows": 40.0}
    assert "accept-queue" not in [entry.pattern.name for entry in patterns.match(signals, PATTERNS)]


def test_there_are_eleven_kinds_and_each_has_two_signals_at_least() -> None:
    names = {pattern.name for pattern in PATTERNS}
    # Churn and elephant are the two faces of one kind: how the traffic is spread over connections.
    assert len(names) == len(PATTERNS) == 12
    assert all(len(pattern.signals) >= 2 and pattern.advice for pattern in PATTERNS)
