"""Comparison: false alarms, passes, power, mix shift, and what may not be compared."""

from __future__ import annotations

import numpy as np
import polars as pl

from analyze.statistics.assessment import Assessment, Window, assess
from analyze.statistics.batch_t import BATCHES, batch_means, compare_series
from analyze.statistics.comparison import INCONCLUSIVE, PASS, REGRESSED, MetricVerdict, Side, decide, judge
from analyze.statistics.metrics import BY_NAME, METRICS, Metric
from analyze.statistics.mix import ZERO_SHIFT
from analyze.statistics.quality import CaptureQuality
from analyze.statistics.quantiles import bin_of, quantile
from analyze.statistics.rare_events import Counted
from benchmarks.statistics.lines import Line, Outcome, Scale, autoregressive, percent

METRIC = Metric("level", "level", "rate", "", 1)


def level_side(series: np.ndarray) -> Side:
    """A positive series as one side of a metric."""
    return Side(float(series.mean()), batch_means(series), np.full(BATCHES, np.inf), np.log(series))


def verdicts(seed: int, runs: int, length: int, rho: float, deviation: float, change: float = 0.0) -> list[str]:
    """Verdicts of so many comparisons of one log-normal AR(1) metric, the candidate changed by `change`."""
    generator = np.random.default_rng(seed)
    before = np.exp(deviation * autoregressive(generator, runs, length, rho))
    after = np.exp(deviation * autoregressive(generator, runs, length, rho)) * (1 + change)
    return [
        decide([judge(METRIC, level_side(a), level_side(b))])[0].verdict for a, b in zip(before, after, strict=True)
    ]


def share(found: list[str], verdict: str) -> float:
    """Share of the verdicts that are this one."""
    return found.count(verdict) / len(found)


def quantile_error(scale: Scale) -> Outcome:
    values = np.random.default_rng(9).lognormal(0.0, 1.0, scale.runs(1_000_000, 200_000))
    bins, counts = np.unique(bin_of(values), return_counts=True)
    asked = [0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999]
    ordered = np.sort(values)
    # The rank is the lower one on both sides.
    worst = max(abs(quantile(bins, counts, q) / ordered[int(q * (len(values) - 1))] - 1) for q in asked)
    return Outcome(f"{len(bins)} buckets, error <= {worst:.2%} to p99.9", worst <= 0.01)


def false_rejections(scale: Scale) -> Outcome:
    worst, texts = 0.0, []
    for rho in (0.0, 0.3, 0.6):
        generator = np.random.default_rng(1)
        runs = scale.runs(1000, 100)
        pairs = zip(*(np.exp(0.3 * autoregressive(generator, runs, 240, rho)) for _ in range(2)), strict=True)
        tests = [compare_series(a, b) for a, b in pairs]
        rejected = float(np.mean([gate and test.p_any < 0.05 for test, gate in tests]))
        worst = max(worst, rejected)
        texts.append(f"{percent(rejected)} (rho {rho})")
    return Outcome(", ".join(texts), worst <= (0.068 if not scale.quick else 0.12))


def false_regressions(scale: Scale) -> Outcome:
    generator = np.random.default_rng(2)
    runs, alarms = scale.runs(1000, 50), 0
    metrics = [Metric(f"metric{number}", "", "rate", "", 1) for number in range(12)]
    for _ in range(runs):
        rho = generator.choice([0.0, 0.3, 0.6])
        sides = []
        for _ in range(2):
            # Metrics of one capture move together: half of their variance is common.
            common = autoregressive(generator, 1, 240, rho)
            own = autoregressive(generator, 12, 240, rho)
            sides.append(np.exp(0.3 * (np.sqrt(0.5) * common + np.sqrt(0.5) * own)))
        rows = [judge(m, level_side(a), level_side(b)) for m, a, b in zip(metrics, *sides, strict=True)]
        alarms += any(row.verdict == REGRESSED for row in decide(rows))
    return Outcome(percent(alarms / runs), alarms / runs <= 0.01)


def same_passes(scale: Scale) -> Outcome:
    runs = scale.runs(1000, 100)
    low, high = (share(verdicts(3, runs, 240, rho, 0.1), PASS) for rho in (0.3, 0.6))
    return Outcome(f"{percent(low)} / {percent(high)}", low >= 0.95 and high >= 0.75)


def large_change(scale: Scale) -> Outcome:
    found = share(verdicts(4, scale.runs(1000, 100), 240, 0.6, 0.1, 0.2), REGRESSED)
    return Outcome(percent(found), found >= 0.95)


def noisy_change(scale: Scale) -> Outcome:
    found = share(verdicts(5, scale.runs(1000, 100), 480, 0.3, 0.3, 0.2), REGRESSED)
    return Outcome(percent(found), found >= 0.90)


def undecidable(scale: Scale) -> Outcome:
    found = verdicts(6, scale.runs(1000, 100), 240, 0.3, 0.3, 0.1)
    unknown, passed = share(found, INCONCLUSIVE), share(found, PASS)
    most = max(set(found), key=found.count)
    return Outcome(f"inconclusive {percent(unknown)}, pass {percent(passed)}", most == INCONCLUSIVE and passed <= 0.02)


def slow_fluctuations(scale: Scale) -> Outcome:
    runs = scale.runs(1000, 50)
    lines = [
        [verdicts(14, runs, length, rho, 0.1, change) for length in (100, 240) for rho in (0.8, 0.9)]
        for change in (0.0, 0.1)
    ]
    alarms = max(share(found, REGRESSED) for found in lines[0])
    passed = max(share(found, PASS) for found in lines[1])
    holds = alarms <= 0.02 + 0.04 * scale.quick and passed <= 0.02 + 0.04 * scale.quick
    return Outcome(f"regressed <= {percent(alarms)}; at +10% pass <= {percent(passed)}", holds)


def latency_side(generator: np.random.Generator, flows: int, buckets: int, rho: float, change: float) -> Window:
    """A window of so many connects, log-normal about a level that fluctuates by a tenth."""
    bucket = generator.integers(0, buckets, flows)
    level = 0.1 * autoregressive(generator, 1, buckets, rho)[0]
    latency = 20_000 * (1 + change) * np.exp(level[bucket] + generator.normal(0, 0.3, flows))
    frame = pl.DataFrame({"bucket": bucket, "log_connect_latency": np.log(latency), "bin": bin_of(latency)})
    histogram = frame.group_by(batch=pl.col("bucket") * BATCHES // buckets, bin="bin").agg(count=pl.len())
    means = frame.group_by("bucket").agg(pl.col("log_connect_latency").mean())
    whole = pl.DataFrame({"bucket": range(buckets)}, schema={"bucket": pl.Int64})
    return Window(
        float(buckets),
        whole.join(means, on="bucket", how="left").sort("bucket"),
        pl.DataFrame(),
        histogram.with_columns(histogram=pl.lit("connect_latency"), stratum=pl.lit("all")),
        CaptureQuality(events_seen=flows),
    )


def few_flows(scale: Scale) -> Outcome:
    runs, generator = scale.runs(200, 10), np.random.default_rng(15)
    found: dict[float, list[str]] = {}
    for change in (0.0, 0.3):
        for _ in range(runs):
            sides = [latency_side(generator, 5_000, 100, 0.6, by) for by in (0.0, change)]
            found.setdefault(change, []).append(assess(*sides, metrics=[BY_NAME["connect_p99"]]).verdict)
    alarms, passed, missed = share(found[0.0], REGRESSED), share(found[0.0], PASS), share(found[0.3], PASS)
    text = f"pass {percent(passed)}, regressed {percent(alarms)}; at +30% pass {percent(missed)}"
    return Outcome(text, alarms <= 0.01 + 0.04 * scale.quick and missed <= 0.02 and passed >= 0.75)


def counted_side(generator: np.random.Generator, trials: int, ratio: float, burst: float, buckets: int = 240) -> Side:
    """A window in which the share `ratio` of connects fails, in bursts of a mean size (geometric) over 5 buckets."""
    events = np.zeros(buckets)
    sizes = generator.geometric(1 / burst, generator.poisson(ratio * trials / burst))
    for size, start in zip(sizes, generator.integers(0, buckets, len(sizes)), strict=True):
        np.add.at(events, np.minimum(start + generator.integers(0, 5, size), buckets - 1), 1)
    counted = Counted(events, generator.multinomial(trials, np.full(buckets, 1 / buckets)).astype(float))
    batches = [values.reshape(BATCHES, -1).sum(axis=1) for values in (counted.events, counted.trials)]
    values = (batches[0] + ZERO_SHIFT) / batches[1]
    series = np.log((counted.events + ZERO_SHIFT) / counted.trials)
    return Side((events.sum() + ZERO_SHIFT) / trials, values, batches[0], series, counted)


def failures(seed: int, runs: int, trials: int, ratio: float, burst: float, change: float = 0.0) -> list[str]:
    """Verdicts on the failed share of so many connects a side, which the candidate has higher by `change`.

    The other gating metrics are there, too, and say nothing: the adjustment for many tests is the usual one.
    """
    generator = np.random.default_rng(seed)
    metric = BY_NAME["connect_failure_ratio"]
    others = [MetricVerdict(one, 1, 1, PASS, p_worse=1.0, p_better=1.0) for one in METRICS if one.gating][1:]
    found = []
    for _ in range(runs):
        sides = [counted_side(generator, trials, level, burst) for level in (ratio, ratio + change)]
        found.append(decide([judge(metric, *sides), *others])[0].verdict)
    return found


def rare_failures(scale: Scale) -> Outcome:
    runs = scale.runs(1000, 50)
    passed = {few: share(failures(10, runs, 10_000, few / 10_000, 1), PASS) for few in (0, 0.5, 1)}
    alarms = [
        share(failures(11, runs, 10_000, ratio, burst), REGRESSED)
        for ratio in (0.0005, 0.005, 0.02)
        for burst in (1, 3, 10, 30)
    ]
    texts = ", ".join(f"{percent(found)} ({few:g} in 10,000)" for few, found in passed.items())
    holds = min(passed.values()) >= 0.95 - 0.05 * scale.quick and max(alarms) <= 0.01 + 0.03 * scale.quick
    return Outcome(f"pass {texts}; regressed <= {percent(max(alarms))}", holds)


def rare_worsening(scale: Scale) -> Outcome:
    runs = scale.runs(1000, 50)
    worst = {
        burst: max(
            share(failures(12, runs, trials, ratio, burst, 0.002), PASS)
            for trials in (6_000, 20_000)
            for ratio in (0.0, 0.001)
        )
        for burst in (1, 2, 3, 10)
    }
    text = ", ".join(f"{percent(passed)} (bursts of {burst})" for burst, passed in worst.items())
    known = max(passed for burst, passed in worst.items() if burst <= 3)
    return Outcome(f"pass {text}", known <= 0.02 + 0.04 * scale.quick)


def large_worsening(scale: Scale) -> Outcome:
    runs = scale.runs(1000, 50)
    found = {burst: share(failures(13, runs, 10_000, 0.0, burst, 0.01), REGRESSED) for burst in (1, 3, 10)}
    text = ", ".join(f"{percent(one)} (bursts of {burst})" for burst, one in found.items())
    return Outcome(f"regressed {text}", found[1] >= 0.95)


def window(
    generator: np.random.Generator, shares: dict[str, tuple[float, float]], *, flows: int = 48_000, buckets: int = 240,
    seconds: float = 240.0, quality: CaptureQuality | None = None,
) -> Window:  # fmt: skip
    """A window of invented flows, measured as `netrec analyze compare` measures: stratum -> (share, median us)."""
    strata = np.array(list(shares))
    chosen = generator.choice(len(strata), flows, p=[part for part, _ in shares.values()])
    medians = np.array([median for _, median in shares.values()])[chosen]
    frame = pl.DataFrame(
        {
            "bucket": generator.integers(0, buckets, flows),
            "stratum": strata[chosen],
            "latency": medians * np.exp(generator.normal(0, 0.3, flows)),
            "bytes": np.exp(generator.normal(8, 1, flows)).astype(np.int64),
            "packets": generator.poisson(20, flows),
            "connects": np.ones(flows, dtype=np.int64),
            "flows": np.ones(flows, dtype=np.int64),
            "closed": np.ones(flows, dtype=np.int64),
            "connect_failures": (generator.random(flows) < 0.01).astype(np.int64),
            "resets": (generator.random(flows) < 0.02).astype(np.int64),
        }
    ).with_columns(
        retransmits=pl.Series(generator.binomial(20, 0.01, flows)),
        batch=pl.col("bucket") * BATCHES // buckets,
        bin=pl.Series(np.zeros(flows, dtype=np.int64)),
    )
    frame = frame.with_columns(bin=pl.Series(bin_of(frame["latency"].to_numpy())))
    sums = [pl.col(name).sum() for name in ("bytes", "packets", "connects", "flows", "closed", "connect_failures",
                                            "resets", "retransmits")]  # fmt: skip
    parts = []
    for histogram in ("connect_latency", "rtt", "rtt_min", "queueing"):
        counted = frame.group_by("batch", "stratum", "bin").agg(pl.len().alias("count"))
        parts.append(counted.with_columns(histogram=pl.lit(histogram)))
    logs = [pl.col("latency").log().mean().alias(f"log_{name}")
            for name in ("connect_latency", "rtt", "rtt_min", "queueing")]  # fmt: skip
    return Window(
        seconds,
        frame.group_by("bucket").agg(*sums, *logs).sort("bucket"),
        frame.group_by("batch", "stratum").agg(*sums),
        pl.concat(parts),
        quality or CaptureQuality(events_seen=flows, events_lost=0),
    )


def row_of(assessment: Assessment, name: str) -> MetricVerdict:
    """One metric's verdict."""
    return next(row for row in assessment.rows if row.metric.name == name)


def simpson(scale: Scale) -> Outcome:
    generator = np.random.default_rng(7)
    fast, slow = 400.0, 4000.0
    before = window(generator, {"fast": (0.7, fast), "slow": (0.3, slow)})
    after = window(generator, {"fast": (0.3, fast), "slow": (0.7, slow)})
    found = assess(before, after)
    row = row_of(found, "connect_p50")
    text = f"raw {row.raw_change:+.0%}, within {row.change:+.1%}: {row.verdict}"
    holds = row.raw_change > 0.5 and row.verdict != REGRESSED and found.mix_shift and found.verdict != REGRESSED
    return Outcome(text, holds)


def half_and_dropped(scale: Scale) -> Outcome:
    generator = np.random.default_rng(8)
    shares = {"all": (1.0, 1000.0)}
    whole = window(generator, shares, flows=1_000_000)
    half = window(generator, shares, flows=500_000, buckets=120, seconds=120.0)
    dropped = window(generator, shares, flows=900_000, quality=CaptureQuality(events_seen=900_000, events_lost=100_000))
    first, second = assess(whole, half).verdict, assess(whole, dropped).verdict
    return Outcome(f"{first} / {second}", first == PASS and second == INCONCLUSIVE)


LINES = (
    Line("quantiles of 1M log-normals from a histogram", "error <= 1% to p99.9, the method's bound", quantile_error),
    Line("A/A x1000, n=240, rho 0-.6, raw 5%", "<= 6.8%", false_rejections),
    Line("A/A, 12 metrics, any regressed", "<= 1%", false_regressions),
    Line("A/A pass, sd .1, rho .3/.6, n=240", ">= 95% / 75%", same_passes),
    Line("+20%, sd .1, n=240, rho .6", "regressed >= 95%", large_change),
    Line("+20%, sd .3, n=480, rho .3", "regressed >= 90%", noisy_change),
    Line("+10%, sd .3, n=240, rho .3", "inconclusive; pass <= 2%", undecidable),
    Line("A/A, sd .1, rho .8-.9, n=100-240", "regressed <= 2%; at +10% pass <= 2%", slow_fluctuations),
    Line("A/A, p99 of 5,000 flows, rho .6, n=100", "pass >= 75%, regressed <= 1%; +30% pass <= 2%", few_flows),
    Line("A/A, failed connects none or rare", "pass >= 95%; in bursts to 30: regressed <= 1%", rare_failures),
    Line("+0.2 points of failed connects, 6,000-20,000 a side", "pass <= 2% to bursts of 3", rare_worsening),
    Line("+1 point of failed connects, from none, 10,000 a side", "regressed >= 95% one by one", large_worsening),
    Line("Simpson fixture: raw up, within 0", "not regressed, banner", simpson),
    Line("the same traffic, half the duration / 10% dropped", "pass / inconclusive", half_and_dropped),
)
