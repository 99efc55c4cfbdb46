"""Which forecast? The average of trends against a single line and MSTL + AutoETS, in one backtest: cover, width, cost.

`python -m benchmarks.statistics.forecast_models` prints for every kind of series the share of later peaks inside the
80% interval, the interval score (width plus 2/0.2 of what was missed, Gneiting and Raftery 2007; lower is better) as a
ratio to the line's, and the CPU seconds of a forecast with its calibration. All go through the same conformal
calibration. MSTL + AutoETS is that of statsmodels (STL, then the exponential smoothing with the least AICc of level,
trend and damped trend); statsforecast's takes part where it is installed.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from analyze.statistics.forecast import INTERVAL, Model, forecast
from analyze.statistics.trends import WEEKLY_DAYS, average_of_trends, single_line
from benchmarks.statistics.lines import autoregressive

Series = NDArray[np.float64]
Kind = Callable[[np.random.Generator, int], Series]


def noisy(generator: np.random.Generator, level: Series, rho: float = 0.5) -> Series:
    """The level with a week and noise that lingers."""
    time = np.arange(len(level))
    noise = autoregressive(generator, 1, len(level), rho)[0]
    return np.asarray(level + 6 * np.sin(2 * np.pi * time / 7) + 5 * noise, dtype=float)


def steady(generator: np.random.Generator, days: int) -> Series:
    return noisy(generator, 100 + generator.uniform(-0.3, 0.6) * np.arange(days))


def trend_break(generator: np.random.Generator, days: int) -> Series:
    """The slope changes for good after 40% of the series."""
    time = np.arange(days)
    return noisy(generator, 100 + generator.uniform(0.6, 1.2) * np.maximum(time - 0.4 * days, 0))


def level_shift(generator: np.random.Generator, days: int) -> Series:
    """A service comes or goes after 30% of the series."""
    return noisy(generator, 100 + generator.choice([-25.0, 25.0]) * (np.arange(days) > 0.3 * days))


def compound(generator: np.random.Generator, days: int) -> Series:
    """Growth in percent, with a week and noise in proportion."""
    time = np.arange(days)
    noise = autoregressive(generator, 1, days, 0.5)[0]
    return np.asarray(100 * np.exp(0.006 * time + 0.06 * np.sin(2 * np.pi * time / 7) + 0.05 * noise), dtype=float)


def wandering(generator: np.random.Generator, days: int) -> Series:
    """A level without a trend that drifts."""
    return np.asarray(noisy(generator, 100 + np.cumsum(generator.normal(0, 2, days)), 0.0), dtype=float)


def spiky(generator: np.random.Generator, days: int) -> Series:
    """One day in twelve has a peak of its own."""
    return np.asarray(steady(generator, days) + (generator.random(days) < 1 / 12) * generator.uniform(20, 60, days))


def saturated(generator: np.random.Generator, days: int) -> Series:
    """Growth that is cut off at the limit from the middle of the series on."""
    return np.minimum(noisy(generator, 60 + 0.8 * np.arange(days)), 60 + 0.8 * 0.5 * days)


KINDS: dict[str, Kind] = {
    "trend and week": steady, "trend break": trend_break, "level shift": level_shift, "compound growth": compound,
    "wandering level": wandering, "spikes": spiky, "saturated": saturated,
}  # fmt: skip


def seasonal_smoothing(
    history: Series, ahead: int, paths: int, generator: np.random.Generator
) -> tuple[Series, float, str]:
    """STL's week (from three weeks on), and paths of the best of three exponential smoothings of the rest."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.seasonal import STL

    week = np.zeros(7)
    rest = history
    if len(history) >= WEEKLY_DAYS:
        seasonal = STL(history, period=7, robust=True).fit().seasonal
        rest, week = history - seasonal, seasonal[-7:]
    fits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trend, damped in ((None, False), ("add", False), ("add", True)):
            fits.append(ETSModel(rest, error="add", trend=trend, damped_trend=damped).fit(disp=False))
        best = min(fits, key=lambda one: one.aicc if math.isfinite(one.aicc) else math.inf)
        errors = generator.normal(0.0, math.sqrt(best.mse), (ahead, paths))
        drawn = best.simulate(ahead, anchor="end", repetitions=paths, random_errors=errors)
    result = np.asarray(drawn, dtype=float).reshape(ahead, paths).T + week[np.arange(ahead) % 7]
    return result, float(result[:, -1].mean() - result[:, 0].mean()) / max(ahead - 1, 1), "MSTL + AutoETS"


def statsforecast_model(
    history: Series, ahead: int, paths: int, generator: np.random.Generator
) -> tuple[Series, float, str]:
    """Normal paths with the mean and width that statsforecast's MSTL and AutoETS give."""
    from statsforecast.models import MSTL, AutoETS

    trend = AutoETS(model="ZZN")
    model = MSTL(season_length=7, trend_forecaster=trend) if len(history) >= WEEKLY_DAYS else trend
    found = model.forecast(history, h=ahead, level=[80])
    width = (found["hi-80"] - found["lo-80"]) / (2 * 1.2816)
    drawn = found["mean"] + width * generator.standard_normal((paths, ahead))
    return drawn, float(found["mean"][-1] - found["mean"][0]) / max(ahead - 1, 1), "statsforecast"


def measure(model: Model, kind: Kind, days: int, runs: int, seed: int = 51) -> tuple[float, float, float]:
    """Coverage, mean interval score and seconds a forecast; two origins a series, as in the ground truth."""
    generator = np.random.default_rng(seed)
    ahead = min(30, days // 2)
    hits, scores, seconds, count = [], [], 0.0, 0
    for number in range(runs):
        series = kind(generator, days + ahead)
        for origin in (days - days // 3, days):
            rest = series[origin : origin + min(ahead, origin // 2)]
            began = time.process_time()
            found = forecast(series[:origin], len(rest), seed=number, model=model)
            seconds, count = seconds + time.process_time() - began, count + 1
            hits.append(float(np.mean((rest >= found.low) & (rest <= found.high))))
            missed = np.maximum(found.low - rest, 0) + np.maximum(rest - found.high, 0)
            scores.append(float(np.mean(found.high - found.low + 2 / (1 - INTERVAL) * missed)))
    return float(np.mean(hits)), float(np.mean(scores)), seconds / count


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics.forecast_models", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--days", type=int, nargs="*", default=[30, 90])
    parser.add_argument("--own", action="store_true", help="only the two models of this project")
    given = parser.parse_args()
    models: dict[str, Model] = {"line": single_line, "average of trends": average_of_trends}
    if not given.own:
        models["MSTL + AutoETS"] = seasonal_smoothing
    try:
        import statsforecast  # noqa: F401

        models["statsforecast"] = statsforecast_model
    except ImportError:
        print("statsforecast is not installed here: left out")
    print("| series | days | " + " | ".join(f"{name}: covers, score, seconds" for name in models) + " |")
    print("| --- | --- |" + " --- |" * len(models))
    for kind, make in KINDS.items():
        for days in given.days:
            found = [measure(model, make, days, given.runs) for model in models.values()]
            texts = [f"{cover:.0%}, {score / found[0][1]:.2f}, {seconds:.3f}" for cover, score, seconds in found]
            print(f"| {kind} | {days} | " + " | ".join(texts) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
