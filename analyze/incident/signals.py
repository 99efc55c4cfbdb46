"""Two windows of a trace -> the measurements that the known patterns look at; `_before` is the baseline's.

A measurement that this trace cannot give (no events, no host table, no such traffic) is left out: the pattern
then lists its signal as missing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from analyze.compare.measure import ENDED, FAILED, OPENED, Window
from analyze.frames import frame

if TYPE_CHECKING:
    from analyze.scan import Scan

LARGE_BYTES = 1400  # what does not fit one segment on a path with a smaller MTU
RETRY = "connect_latency_us between 900000 and 1500000 or connect_latency_us between 2700000 and 4000000 " \
        "or connect_latency_us between 6300000 and 9000000"  # fmt: skip
QUICK_SECONDS = 0.5  # a refusal comes within a round trip; a SYN that is lost takes a second at least
# A flow that hangs ends in another row than the one that sent its data: `flow_...` are sums
# over the whole flow, as far as the window has it.
STALLED = "tcp_close = 'timeout' and (flow_retransmits >= 2 or flow_retransmits is null)"
# Per client, server and port: everything that needs only sums.
SUMS = {
    "new": f"{OPENED}",
    "bytes": "bytes",
    "packets": "packets",
    "retransmits": "retransmits",
    "connects": f"transport = 'tcp' and ({OPENED} or {FAILED})",
    "failed": FAILED,
    "local": f"{FAILED} and coalesce(client_packets, 0) = 0",
    "refused": f"{FAILED} and coalesce(client_packets, 0) > 0 and epoch_us(end_time) - epoch_us(start_time) < "
    f"{int(QUICK_SECONDS * 1e6)}",
    "ended": ENDED,
    "reset": "tcp_close in ('rst_sent', 'rst_received')",
    "timeouts": "tcp_close = 'timeout'",
    "latencies": f"{OPENED} and connect_latency_us is not null",
    "retries": f"{OPENED} and ({RETRY})",
    "stalled_large": f"{STALLED} and coalesce(flow_packets, 3) > 0",
    "large": f"{ENDED} and flow_bytes >= {LARGE_BYTES} and not ({STALLED})",
    "small": f"(({ENDED}) or {FAILED}) and flow_bytes < {LARGE_BYTES} and not ({STALLED})",
    "small_bad": f"flow_bytes < {LARGE_BYTES} and ({FAILED} or (tcp_close = 'timeout' and not ({STALLED})))",
    "small_lossy": f"{ENDED} and flow_bytes < {LARGE_BYTES} and flow_retransmits > 0 and not ({STALLED})",
    "lossy_large": f"retransmits > 0 and bytes >= {LARGE_BYTES}",
    "completed": "tcp_close = 'fin'",
    "one_way": "tcp_close = 'fin' and least(client_packets, server_packets) = 0 "
    "and greatest(client_packets, server_packets) > 2",
    "open_rows": "flow_end_reason = 'active' and transport = 'tcp'",
    "silent_rows": "flow_end_reason = 'active' and transport = 'tcp' and bytes = 0",
    "queries": "server_port = 53",
    "answers": "server_port = 53 and server_bytes > 0",
}
SUMMED = {"bytes", "packets", "retransmits"}
ENDPOINT = ("client_address", "server_address", "server_port", "role")


def measure(incident: Scan, baseline: Scan, window: Window, before: Window) -> dict[str, float]:
    """Every measurement that both windows allow."""
    tables = [_endpoints(scan) for scan in (incident, baseline)]
    now = _shares(tables[0], window.seconds)
    usual = _shares(tables[1], before.seconds)
    found = {**now, **{f"{name}_before": value for name, value in usual.items()}}
    found |= _ratios(now, usual)
    found["stalled_rows"] = float(tables[0]["silent_rows"].sum() or 0)
    found |= _places(tables[0], tables[1], window.seconds / before.seconds)
    found |= _old_connections(incident, baseline, window, before)
    found |= _top_flow(incident, baseline)
    found |= _incast(incident, tables[0])
    found["incast_sources_before"] = _incast(baseline, tables[1])["incast_sources"]
    found |= _pair_rate(incident, tables[0], window)
    for suffix, scan, one in (("", incident, window), ("_before", baseline, before)):
        # Where both tables count the same thing, the larger count is the more complete one.
        gauges, events = _host(scan, one), _events(scan, one)
        names = gauges.keys() | events.keys()
        found |= {f"{name}{suffix}": max(gauges.get(name, 0.0), events.get(name, 0.0)) for name in names}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _endpoints(scan: Scan) -> pl.DataFrame:
    sums = ", ".join(
        f"sum(coalesce({sql}, 0))::BIGINT as {name}" if name in SUMMED else f"tally({sql}, weight) as {name}"
        for name, sql in SUMS.items()
    )
    minimum = "sum(rtt_min_us)::BIGINT as rtt_min_sum, count(rtt_min_us) as rtt_min_count"
    return frame(scan, f"select {', '.join(ENDPOINT)}, {sums}, {minimum} from {_whole_flows(scan)} group by all")


WHOLE = ("bytes", "packets", "retransmits")


def _whole_flows(scan: Scan) -> str:
    """SQL: `flow_with_losses` with `flow_bytes`, `flow_packets` and `flow_retransmits`.

    Only flows that timed out hang for intervals and end in a silent one, so that only theirs are gathered.
    """
    if not scan.fetch("select count(*) from flow_with_losses where tcp_close = 'timeout'")[0][0]:
        return f"(select *, {', '.join(f'{name} as flow_{name}' for name in WHOLE)} from flow_with_losses)"
    whole = ", ".join(
        f"case when whole.flow_id is null then flow.{name} else whole.{name} end as flow_{name}" for name in WHOLE
    )
    return (
        f"(select flow.*, {whole} from flow_with_losses flow left join (select capture, flow_id, "
        f"{', '.join(f'sum({name}) as {name}' for name in WHOLE)} from flow_with_losses where flow_id in "
        "(select flow_id from flow_with_losses where tcp_close = 'timeout') group by all) whole "
        "on flow.tcp_close = 'timeout' and flow.capture = whole.capture and flow.flow_id = whole.flow_id)"
    )


def _shares(table: pl.DataFrame, seconds: float) -> dict[str, float]:
    total = {name: float(table[name].sum() or 0) for name in [*SUMS, "rtt_min_sum", "rtt_min_count"]}
    other = table.filter(pl.col("server_port") != 53)
    return {
        "flow_rate": total["new"] / seconds,
        "byte_rate": total["bytes"] / seconds,
        "bytes_per_flow": _share(total["bytes"], total["new"]),
        "retransmit_ratio": _share(total["retransmits"], total["packets"]),
        "connect_failure_share": _share(total["failed"], total["connects"]),
        "local_failure_share": _share(total["local"], total["connects"]),
        "refused_share": _share(total["refused"], total["connects"]),
        "reset_share": _share(total["reset"], total["ended"]),
        "retry_connect_share": _share(total["retries"], total["latencies"]),
        "large_failure_share": _share(total["stalled_large"], total["stalled_large"] + total["large"]),
        "small_failure_share": _share(total["small_bad"], total["small"]),
        "one_way_share": _share(total["one_way"], total["completed"]),
        "stalled_share": _share(total["silent_rows"], total["open_rows"]),
        "dns_unanswered_share": _share(total["queries"] - total["answers"], total["queries"]),
        "other_connect_rate": float(other["new"].sum() or 0) / seconds,
        "rtt_min": _share(total["rtt_min_sum"], total["rtt_min_count"]),
    }


def _ratios(now: dict[str, float], usual: dict[str, float]) -> dict[str, float]:
    return {
        f"{name}_ratio": _share(now[name], usual[name])
        for name in ("flow_rate", "byte_rate", "bytes_per_flow", "other_connect_rate", "rtt_min")
    }


def _places(now: pl.DataFrame, usual: pl.DataFrame, scale: float) -> dict[str, float]:
    """How much of what was added is in one place."""
    found: dict[str, float] = {}
    server = ["server_address", "server_port"]
    found["retry_top_server_share"] = _top_share(now, usual, server, pl.col("retries"), scale)
    found["reset_top_server_share"] = _top_share(now, usual, server, pl.col("reset") + pl.col("refused"), scale)
    # The peer is the end that is not this host: its path is what the packets are lost on.
    peer = pl.when(pl.col("role") == "server").then("client_address").otherwise("server_address")
    own, other = (table.with_columns(peer=peer) for table in (now, usual))
    by_peer = _top_share(own, other, ["peer"], pl.col("retransmits"), scale)
    by_pair = _top_share(own, other, ["client_address", "server_address"], pl.col("retransmits"), scale)
    found["retransmit_top_path_share"] = max(by_peer, by_pair) if not math.isnan(by_peer) else math.nan
    found["large_only_loss"] = _large_only_loss(now)
    ports = now.group_by("server_port").agg(pl.col("connects", "failed").sum()).filter(pl.col("connects") >= 10)
    if ports.height >= 3:
        failing = (pl.col("failed") >= 0.05 * pl.col("connects")).mean()
        found["failing_port_share"] = float(ports.select(failing).item())
    return found


def _large_only_loss(table: pl.DataFrame) -> float:
    """On the path where most large flows hang: their share of the large ones, less that of lossy small ones."""
    if table.is_empty():
        return math.nan
    names = ("stalled_large", "large", "small", "small_lossy")
    paths = table.group_by("client_address", "server_address").agg(pl.col(names).sum())
    worst = paths.sort("stalled_large", "client_address", "server_address", descending=[True, False, False]).row(
        0, named=True
    )
    lossy_small = worst["small_lossy"] / worst["small"] if worst["small"] else 0.0
    return _share(worst["stalled_large"], worst["stalled_large"] + worst["large"]) - lossy_small


def _top_share(now: pl.DataFrame, usual: pl.DataFrame, keys: list[str], what: pl.Expr, scale: float) -> float:
    own = now.group_by(keys).agg(what.sum().alias("now"))
    other = usual.group_by(keys).agg(what.sum().alias("usual"))
    excess = own.join(other, on=keys, how="left", nulls_equal=True).select(
        (pl.col("now") - scale * pl.col("usual").fill_null(0)).clip(lower_bound=0).alias("excess")
    )["excess"]
    total = float(excess.sum() or 0)
    return float(excess.max() or 0) / total if total > 0 else math.nan  # type: ignore[arg-type]


def _old_connections(incident: Scan, baseline: Scan, window: Window, before: Window) -> dict[str, float]:
    """Bytes per second of the connections that were there before the window, against those of the baseline."""
    rates = []
    for scan, one in ((incident, window), (baseline, before)):
        moved = scan.fetch(
            f"select coalesce(sum(bytes), 0)::DOUBLE from flow where flow_start_time < make_timestamptz({one.start})"
        )[0][0]
        rates.append(moved / one.seconds)
    return {"established_rate_ratio": _share(rates[0], rates[1])}


def _top_flow(incident: Scan, baseline: Scan) -> dict[str, float]:
    """The largest flow's share of the bytes; only rows that carry a thousandth of them can belong to it."""
    shares = []
    for scan in (incident, baseline):
        row = scan.fetch(
            "with whole as (select sum(bytes)::DOUBLE as total from flow) "
            "select max(own) / any_value(total) from (select sum(bytes)::DOUBLE as own, any_value(total) as total "
            "from flow, whole where bytes > total / 1000 group by capture, flow_id)"
        )[0]
        shares.append(float(row[0] or 0.0))
    return {
        "top_flow_share": shares[0],
        "top_flow_share_before": shares[1],
        "top_flow_share_gain": shares[0] - shares[1],
    }


def _incast(scan: Scan, table: pl.DataFrame) -> dict[str, float]:
    """The most senders that lost packets to one receiver within a second, and that receiver's share of the losses."""
    total = float(table["retransmits"].sum() or 0)
    if total <= 0:
        return {"incast_sources": 0.0}
    rows = frame(
        scan,
        "with loss as (select epoch_us(end_time) // 1000000 as second, client_address as sender, "
        "server_address as receiver, client_retransmits as lost from flow_with_losses where client_retransmits > 0 "
        "union all select epoch_us(end_time) // 1000000, server_address, client_address, server_retransmits "
        "from flow_with_losses where server_retransmits > 0), "
        "by_second as (select receiver, second, count(distinct sender) as sources from loss group by 1, 2) "
        "select receiver, max(sources) as sources, (select sum(lost)::DOUBLE from loss "
        "where loss.receiver = by_second.receiver) as lost from by_second group by 1 "
        "order by sources desc, receiver limit 1",
    )
    if rows.is_empty():
        return {"incast_sources": 0.0}
    return {
        "incast_sources": float(rows["sources"][0]),
        "incast_destination_share": min(1.0, float(rows["lost"][0]) / total),
    }


def _pair_rate(scan: Scan, table: pl.DataFrame, window: Window) -> dict[str, float]:
    """New connections per second of the busiest client, server and port: its median second."""
    keys = ["client_address", "server_address", "server_port"]
    pairs = table.group_by(keys).agg(pl.col("connects").sum()).sort("connects", descending=True)
    if pairs.is_empty():
        return {}
    return {"pair_connect_rate": float(pairs["connects"][0]) / window.seconds}


# Gauge (up to the first colon) -> measurement: the largest share of its limit, and increases per minute.
SHARES = {"ephemeral_ports": "ephemeral_share", "conntrack": "conntrack_share", "listen_queue": "listen_queue_share"}
INCREASES = {
    "softnet_drops": "softnet_drops",
    "conntrack_drop": "conntrack_drops",
    "conntrack_insert_failed": "conntrack_drops",
    "conntrack_early_drop": "conntrack_drops",
    "tcp_listen_overflows": "listen_overflows",
    "tcp_zero_windows_sent": "zero_windows",
}


def _host(scan: Scan, window: Window) -> dict[str, float]:
    if not scan.has("host"):
        return {}
    rows = scan.fetch(
        'select split_part(resource, \':\', 1), max(used / nullif("limit", 0)), avg(used / nullif("limit", 0)), '
        "sum(used)::DOUBLE from host group by 1"
    )
    found: dict[str, float] = {}
    for resource, peak, mean, total in rows:
        if resource in SHARES and peak is not None:
            found[SHARES[resource]] = float(peak)
        if resource in INCREASES:
            name = INCREASES[resource]
            found[name] = found.get(name, 0.0) + float(total or 0) * 60.0 / max(window.seconds, 1.0)
        if resource == "link" and mean is not None:
            found["link_utilisation"] = float(mean)
    return found


def _events(scan: Scan, window: Window) -> dict[str, float]:
    if not scan.has("events"):
        return {}
    rows = scan.fetch("select kind, reason, sum(count)::DOUBLE from events group by 1, 2")
    kinds: dict[str, float] = {}
    for kind, reason, count in rows:
        kinds[kind] = kinds.get(kind, 0.0) + count
        if kind == "drop" and reason and "conntrack" in reason.lower():
            kinds["conntrack"] = kinds.get("conntrack", 0.0) + count
    # Normalised to the length of the window, so that both sides can be compared.
    per_minute = 60.0 / max(window.seconds, 1.0)
    names = {"listen_overflow": "listen_overflows", "zero_window": "zero_windows", "conntrack": "conntrack_drops"}
    return {name: kinds.get(kind, 0.0) * per_minute for kind, name in names.items()}


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan
