"""Histogram quantiles against sorted values, and the SQL text against NumPy."""

from __future__ import annotations

import math

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyze.statistics import quantiles


def histogram(values: np.ndarray) -> pl.DataFrame:
    bins, counts = np.unique(quantiles.bin_of(values), return_counts=True)
    return pl.DataFrame({"bin": bins, "count": counts})


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_estimate_is_within_one_percent_of_a_sorted_rank(values: list[float], probability: float) -> None:
    counted = histogram(np.array(values))
    exact = sorted(values)[int(probability * (len(values) - 1))]
    estimate = quantiles.quantile(counted["bin"], counted["count"], probability)
    assert estimate == pytest.approx(exact, rel=0.0101)


def test_error_over_a_million_log_normals() -> None:
    values = np.random.default_rng(7).lognormal(6, 1, 1_000_000)
    counted = histogram(values)
    assert counted.height < 600
    for probability in (0.5, 0.95, 0.99, 0.999):
        estimate = quantiles.quantile(counted["bin"], counted["count"], probability)
        assert estimate == pytest.approx(np.quantile(values, probability, method="lower"), rel=0.0101)


def test_zero_and_negative_have_a_bin_of_their_own() -> None:
    counted = histogram(np.array([0.0, -3.0, 5.0]))
    assert quantiles.quantile(counted["bin"], counted["count"], 0.0) == 0.0
    assert quantiles.quantile(counted["bin"], counted["count"], 1.0) == pytest.approx(5.0, rel=0.01)


def test_empty_histogram_has_no_quantile() -> None:
    assert math.isnan(quantiles.quantile([], [], 0.5))


def test_merging_is_counting_together() -> None:
    generator = np.random.default_rng(1)
    a, b = generator.lognormal(3, 1, 500), generator.lognormal(4, 1, 700)
    merged = quantiles.merge(histogram(a), histogram(b))
    assert merged.equals(histogram(np.concatenate([a, b])), null_equal=True)


def test_sql_text_gives_the_same_bins() -> None:
    values = np.concatenate([np.random.default_rng(2).lognormal(5, 2, 5000), [0.0, -1.0]])
    frame = pl.DataFrame({"x": values})
    sql = duckdb.sql(f"select {quantiles.bin_sql('x')} as bin, count(*) as count from frame group by 1 order by 1").pl()
    assert frame.height == sql["count"].sum()
    assert sql["bin"].to_list() == histogram(values)["bin"].to_list()
    assert sql["count"].to_list() == histogram(values)["count"].to_list()


def test_distribution_function_ends_at_one() -> None:
    counted = histogram(np.array([1.0, 2.0, 2.0, 10.0]))
    points = quantiles.cumulative_distribution(counted["bin"], counted["count"])
    assert points["share"].to_list() == pytest.approx([0.25, 0.75, 1.0])
    assert quantiles.cumulative_distribution([], []).is_empty()
