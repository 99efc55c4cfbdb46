"""Paths of a daily series' future, over the trends that its past allows.

Every candidate is a least-squares trend (a line, a line with a bend, a line with a step, a level that wanders, or one
of the first two on the logarithm: growth in percent) with a weekly pattern from three weeks on and AR(1) noise. None
is chosen: paths are drawn from all of them in proportion to how well each explains the past (exp(-BIC/2)), and a
seventh at least from the wandering levels, because trends also break after the last day that was seen. Where the past
leaves open what the trend is, the candidates disagree and the paths fan out; where it does not, they are one line's.

Sources: Prais and Winsten (1954) for the estimates; Raftery (1995) for weights by BIC; Kendall (1954) for the bias of
the correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

WEEKLY_DAYS = 21
MAXIMUM_CORRELATION = 0.95
WANDERING_CORRELATION = 0.995
WANDERING_SHARE = 0.15
LEAST_WEIGHT = 0.01  # of the best candidate's: what is rarer costs more than it tells
BENDS = 6
FIRST_BEND, LAST_DAYS = 0.2, 10  # a bend leaves a fifth of the days before it and ten days after it
LOGARITHM_FLOOR = 0.05  # of the median: series that touch zero do not grow in percent
LARGEST_GROWTH = math.log(20.0)
LINE, BEND, STEP, WANDERING = "line", "bent line", "line with a step", "wandering level"
PERCENT = {LINE: "growth in percent", BEND: "growth in percent that changed"}


@dataclass(frozen=True)
class Candidates:
    """`designs` (candidates x days x columns; the columns: level, slope, bend, step, week), past and future days;
    `logarithmic`: fitted on the logarithm; `penalty`: parameters beside the columns (where the bend is).
    """

    names: list[str]
    designs: Array
    logarithmic: NDArray[np.bool_]
    wandering: NDArray[np.bool_]
    penalty: Array


@dataclass(frozen=True)
class Fit:
    """What least squares found, one entry a candidate; `likelihood` is that of the series itself."""

    rho: Array
    coefficients: Array
    residuals: Array
    covariance: Array
    likelihood: Array
    parameters: Array


def average_of_trends(
    history: Array, ahead: int, paths: int, generator: np.random.Generator
) -> tuple[Array, float, str]:
    """Paths (paths x days ahead), the slope per day at the end, and what explains the past best."""
    return _draw(_candidates(history, ahead), history, ahead, paths, generator)


def single_line(history: Array, ahead: int, paths: int, generator: np.random.Generator) -> tuple[Array, float, str]:
    """The same from a line alone: what the average is held against."""
    every = _candidates(history, ahead)
    only = Candidates([LINE], every.designs[:1], every.logarithmic[:1], every.wandering[:1], every.penalty[:1])
    return _draw(only, history, ahead, paths, generator)


def _candidates(history: Array, ahead: int) -> Candidates:
    days = len(history)
    time = np.arange(days + ahead)
    columns = [np.ones(len(time)), time - days / 2.0, np.zeros(len(time)), np.zeros(len(time))]
    if days >= WEEKLY_DAYS:
        # Six contrasts that sum to zero over the week, so that the first column stays the level.
        columns += [(time % 7 == day).astype(float) - (time % 7 == 6) for day in range(6)]
    base = np.column_stack(columns)
    names, designs = [LINE], [base]
    places = np.unique(np.linspace(FIRST_BEND * days, days - LAST_DAYS, BENDS).astype(int))
    for place in places[places < days]:
        bent, stepped = base.copy(), base.copy()
        bent[:, 2] = np.maximum(time - place, 0)
        stepped[:, 3] = time >= place
        names += [BEND, STEP]
        designs += [bent, stepped]
    level = base.copy()
    level[:, 1] = 0.0
    names += [WANDERING, WANDERING]
    designs += [level, base]
    linear = len(names)
    if history.min() > LOGARITHM_FLOOR * max(float(np.median(history)), 0.0):
        growing = [index for index, name in enumerate(names) if name in PERCENT]
        designs += [designs[index] for index in growing]
        names += [PERCENT[names[index]] for index in growing]
    stacked = np.stack(designs)
    placed = stacked[:, :, 2:4].any(axis=(1, 2))
    index = np.arange(len(names))
    return Candidates(
        names, stacked, index >= linear, (index >= linear - 2) & (index < linear), np.where(placed, 2.0, 1.0)
    )


def _fit(candidates: Candidates, history: Array) -> Fit:
    """Prais-Winsten for all candidates at once; a column of zeros takes no part."""
    days = len(history)
    x = candidates.designs[:, :days]
    y = np.where(candidates.logarithmic[:, None], np.log(np.maximum(history, 1e-300)), history)
    rho = np.where(candidates.wandering, WANDERING_CORRELATION, 0.0)
    count = x.any(axis=1).sum(axis=1)
    for _ in range(3):
        used = rho
        root = np.sqrt(1 - used**2)
        x_star = np.concatenate([root[:, None, None] * x[:, :1], x[:, 1:] - used[:, None, None] * x[:, :-1]], axis=1)
        y_star = np.concatenate([root[:, None] * y[:, :1], y[:, 1:] - used[:, None] * y[:, :-1]], axis=1)
        inverse = np.linalg.pinv(x_star.transpose(0, 2, 1) @ x_star, hermitian=True)
        coefficients = np.einsum("cij,cdj,cd->ci", inverse, x_star, y_star)
        residuals = y - np.einsum("cdi,ci->cd", x, coefficients)
        power = (residuals[:, :-1] ** 2).sum(axis=1)
        estimate = (residuals[:, 1:] * residuals[:, :-1]).sum(axis=1) / np.maximum(power, 1e-300)
        # A fitted line and short series hide correlation: Kendall's correction, once more for the line.
        estimate = np.clip(estimate + (2 + 4 * np.maximum(estimate, 0)) / days, 0, MAXIMUM_CORRELATION)
        rho = np.where(candidates.wandering, WANDERING_CORRELATION, estimate)
    squares = ((y_star - np.einsum("cdi,ci->cd", x_star, coefficients)) ** 2).sum(axis=1)
    # Of one series, whatever the scale: a logarithm's density has its derivative as a factor.
    scale = np.where(candidates.logarithmic, -y.sum(axis=1), 0.0)
    floor = 1e-12 * np.maximum((y**2).sum(axis=1), 1e-300)
    likelihood = scale - days / 2 * np.log(np.maximum(squares, floor) / days) + np.log(1 - used**2) / 2
    variance = squares / np.maximum(days - count - 1, 1)
    return Fit(rho, coefficients, residuals, variance[:, None, None] * inverse, likelihood, count + candidates.penalty)


def _draw(
    candidates: Candidates, history: Array, ahead: int, paths: int, generator: np.random.Generator
) -> tuple[Array, float, str]:
    fit = _fit(candidates, history)
    evidence = fit.likelihood - fit.parameters / 2 * math.log(len(history))
    weights = np.exp(evidence - evidence.max())
    weights[weights < LEAST_WEIGHT] = 0.0
    weights /= weights.sum()
    best = candidates.names[int(weights.argmax())]
    wandering = float(weights[candidates.wandering].sum())
    if candidates.wandering.any() and wandering < WANDERING_SHARE:
        weights[~candidates.wandering] *= (1 - WANDERING_SHARE) / (1 - wandering)
        weights[candidates.wandering] = WANDERING_SHARE / candidates.wandering.sum()
    drawn, slope = [], 0.0
    for index, number in enumerate(generator.multinomial(paths, weights)):
        end = float(fit.coefficients[index, 1] + fit.coefficients[index, 2])
        slope += weights[index] * end * (float(history[-7:].mean()) if candidates.logarithmic[index] else 1.0)
        if number:
            drawn.append(_paths(candidates, fit, index, history, ahead, int(number), generator))
    weekly = " + weekly pattern" if candidates.designs.shape[2] > 4 else ""
    return np.vstack(drawn), slope, best + weekly


def _paths(
    candidates: Candidates, fit: Fit, index: int, history: Array, ahead: int, paths: int, generator: np.random.Generator
) -> Array:
    """Paths of one candidate, with the uncertainty of its coefficients and innovations drawn from its residuals."""
    days = len(history)
    logarithmic = bool(candidates.logarithmic[index])
    y = np.log(history) if logarithmic else history
    used = candidates.designs[index].any(axis=0)
    design, rho, residuals = candidates.designs[index][:, used], fit.rho[index], fit.residuals[index]
    covariance = fit.covariance[index][np.ix_(used, used)]
    innovations = residuals[1:] - rho * residuals[:-1]
    freedom = max(days - design.shape[1] - 1, 3)
    innovations = (innovations - innovations.mean()) * math.sqrt(len(innovations) / freedom)
    # Student-t draws: the noise's size is itself estimated.
    wide = np.sqrt(freedom / generator.chisquare(freedom, size=(paths, 1)))
    root = np.linalg.cholesky(covariance + 1e-12 * max(float(np.trace(covariance)), 1e-300) * np.eye(len(covariance)))
    drawn = fit.coefficients[index][used] + wide * (generator.standard_normal((paths, len(covariance))) @ root.T)
    noise = generator.choice(innovations, size=(paths, ahead)) * wide
    state = y[-1] - drawn @ design[days - 1]
    result = drawn @ design[days:].T
    for day in range(ahead):
        state = rho * state + noise[:, day]
        result[:, day] += state
    return np.exp(np.minimum(result, y.max() + LARGEST_GROWTH)) if logarithmic else result
