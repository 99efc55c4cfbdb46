"""Forecasts: does an 80% interval hold 80% of what came?"""

from __future__ import annotations

import numpy as np

from analyze.statistics.forecast import forecast
from analyze.statistics.trends import average_of_trends
from benchmarks.statistics import forecast_models
from benchmarks.statistics.lines import Line, Outcome, Scale, autoregressive, percent


def history(generator: np.random.Generator, days: int, rho: float) -> np.ndarray:
    """Daily peaks: a trend, a week, and noise that lingers."""
    time = np.arange(days)
    trend = generator.uniform(-0.3, 0.6) * time
    return 100 + trend + 6 * np.sin(2 * np.pi * time / 7) + 5 * autoregressive(generator, 1, days, rho)[0]


def coverage(scale: Scale) -> Outcome:
    texts, low, high = [], 1.0, 0.0
    for days, rho in ((30, 0.5), (30, 0.8), (90, 0.5), (90, 0.8)):
        generator = np.random.default_rng(21)
        ahead, hits = min(30, days // 2), []
        for number in range(scale.runs(60, 8)):
            series = history(generator, days + ahead, rho)
            # Rolling origins: the last third of the history is forecast from where it was then, too.
            for origin in (days - days // 3, days):
                rest = series[origin : origin + min(ahead, origin // 2)]
                found = forecast(series[:origin], len(rest), seed=number)
                hits.append(float(np.mean((rest >= found.low) & (rest <= found.high))))
        measured = float(np.mean(hits))
        low, high = min(low, measured), max(high, measured)
        texts.append(f"{percent(measured)} ({days} days, rho {rho})")
    return Outcome(", ".join(texts), low >= (0.72 if not scale.quick else 0.6) and high <= 0.88 + 0.1 * scale.quick)


def changed_trends(scale: Scale) -> Outcome:
    """Series whose past is not a line: what `forecast_models` compares, the forecast as it is."""
    covers = {
        f"{name}, {days} days": forecast_models.measure(average_of_trends, kind, days, scale.runs(12, 3))[0]
        for name, kind in forecast_models.KINDS.items()
        for days in (30, 90)
    }
    least = min(covers, key=lambda name: covers[name])
    text = f"{percent(covers[least])} ({least}) to {percent(max(covers.values()))}"
    return Outcome(text, covers[least] >= (0.70 if not scale.quick else 0.5))


LINES = (
    Line("80% forecast interval, rolling origin", "covers 72-88%", coverage),
    Line("the same after breaks, growth in percent, drift, spikes, saturation", "covers >= 70% each", changed_trends),
)
