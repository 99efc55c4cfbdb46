"""What a comparison measures: each metric's formula, its bad direction, and the effect that begins to matter.

`ratio` metrics are sums over sums, `quantile` metrics come from merged histograms (microseconds), `rate`
metrics are per second of capture, `survival` ones of lives that the window cuts. Informational metrics (bad
direction 0) are shown and never decide.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

DELTA_RATE = 0.05
DELTA_P95 = 0.10
DELTA_P99 = 0.15
RATIO_FLOOR = 0.001  # 0.1 point
RTT_FLOOR_US = 200.0  # 0.2 ms
CONNECT_LEAST_US = 1000.0  # a quicker handshake is as good as one of a millisecond: of that a change counts
MINIMUM_BUCKETS = 64


@dataclass(frozen=True)
class Metric:
    """One metric of a comparison.

    `numerator` and `denominator` name count columns (ratio, rate), `histogram` the histogram (quantile);
    `delta` is relative, `floor` absolute in the metric's unit: the larger of the two is the effect that
    matters. `minimum` is what every batch needs: flows for quantiles, events for ratios.
    """

    name: str
    title: str
    kind: Literal["ratio", "quantile", "rate", "survival"]
    unit: str
    bad_direction: int = 1
    delta: float = DELTA_RATE
    floor: float = 0.0
    minimum: int = 20
    numerator: str = ""
    denominator: str = ""
    histogram: str = ""
    probability: float = 0.5

    @property
    def gating(self) -> bool:
        """Whether a verdict on this metric counts in the overall one."""
        return self.bad_direction != 0

    def relevant(self, baseline: float) -> float:
        """The relative effect that begins to matter against this baseline value."""
        return max(self.delta, self.floor / baseline) if baseline > 0 else max(self.delta, 1.0)

    def with_delta(self, delta: float) -> Metric:
        """The same metric with another relative threshold (`--delta`)."""
        return replace(self, delta=delta)


def _ratio(name: str, title: str, numerator: str, denominator: str) -> Metric:
    return Metric(name, title, "ratio", "share", floor=RATIO_FLOOR, numerator=numerator, denominator=denominator)


def _quantile(name: str, title: str, histogram: str, probability: float, floor: float = 0.0) -> Metric:
    delta, minimum = DELTA_RATE, 20
    if probability >= 0.99:
        delta, minimum = DELTA_P99, 1000
    elif probability >= 0.95:
        delta, minimum = DELTA_P95, 100
    return Metric(
        name, title, "quantile", "us", delta=delta, floor=floor, minimum=minimum,
        histogram=histogram, probability=probability,
    )  # fmt: skip


METRICS: tuple[Metric, ...] = (
    _ratio("retransmit_ratio", "retransmitted share of packets", "retransmits", "packets"),
    _ratio("connect_failure_ratio", "failed share of connects", "connect_failures", "connects"),
    _ratio("reset_share", "reset share of finished connections", "resets", "closed"),
    _quantile("connect_p50", "connect latency, median", "connect_latency", 0.50, DELTA_RATE * CONNECT_LEAST_US),
    _quantile("connect_p95", "connect latency, 95th percentile", "connect_latency", 0.95, DELTA_P95 * CONNECT_LEAST_US),
    _quantile("connect_p99", "connect latency, 99th percentile", "connect_latency", 0.99, DELTA_P99 * CONNECT_LEAST_US),
    _quantile("rtt_p50", "round-trip time, median", "rtt", 0.50, RTT_FLOOR_US),
    _quantile("rtt_p95", "round-trip time, 95th percentile", "rtt", 0.95, RTT_FLOOR_US),
    _quantile("rtt_min_p50", "minimum round-trip time, median", "rtt_min", 0.50, RTT_FLOOR_US),
    _quantile("queueing_p50", "round-trip time above its minimum, median", "queueing", 0.50, RTT_FLOOR_US),
    Metric("bytes_per_second", "payload bytes per second", "rate", "byte/s", 0, numerator="bytes"),
    Metric("flows_per_second", "new flows per second", "rate", "flow/s", 0, numerator="flows"),
    Metric("bytes_per_flow", "payload bytes per new flow", "ratio", "byte", 0, numerator="bytes", denominator="flows"),
)
# Judged only when asked for: a longer life is worse where a connection carries one request, and better in a pool.
ON_REQUEST: tuple[Metric, ...] = (
    _quantile("life_p50", "life of finished connections, median", "life", 0.50),
    _quantile("life_p95", "life of finished connections, 95th percentile", "life", 0.95),
    Metric("duration_p50", "life of all connections, open ones too, median", "survival", "us", 0, probability=0.50),
)
BY_NAME: dict[str, Metric] = {metric.name: metric for metric in (*METRICS, *ON_REQUEST)}
