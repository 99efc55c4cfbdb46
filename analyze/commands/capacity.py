"""`netrec analyze capacity`: what fills first, when, how sure; what fits at growth; what is billed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from analyze.extras import import_meanwhile, need_statistics
from analyze.options import Session, common_options
from netrec.errors import UsageError
from netrec.text import parse_duration

if TYPE_CHECKING:
    import polars as pl

    from analyze.answer import Section
    from analyze.capacity.traffic import Extent, Traffic
    from analyze.scan import Scan
    from analyze.statistics.outlook import Outlook

LITTLE_TIME_WAIT = 120.0  # seconds that connection tracking keeps a closed TCP connection
_SPEED = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


@click.command("capacity", short_help="What fills first, when, how sure; what fits; what is billed?")
@click.option("--growth", default="0%", show_default=True, metavar="PERCENT", help="With so much more traffic: +30%.")
@click.option("--lose", default=0, type=click.IntRange(min=0), metavar="N", help="After losing so many hosts.")
@click.option(
    "--hosts", type=click.IntRange(min=1), metavar="N", help="Hosts that share the load (default: those seen)."
)
@click.option("--threshold", default="90%", show_default=True, metavar="PERCENT", help="This much of a limit is full.")
@click.option("--at-risk-within", "within", metavar="DURATION", help="Exit code 1 when something fills within: 30d.")
@click.option("--link-speed", metavar="SPEED", help="Speed of a host's link, a limit for its bytes: 1Gbit/s, 10G.")
@click.option("--all", "every", is_flag=True, help="Show every resource, also those that are far from their limits.")
@common_options()
def command(
    session: Session,
    growth: str,
    lose: int,
    hosts: int | None,
    threshold: str,
    within: str | None,
    link_speed: str | None,
    every: bool,
) -> int:
    """Say which resource fills first, when and how sure that is, and what is left after growth or the loss of hosts.

    It works from flows alone (bytes, connections, ports, bursts, billing) and tells more with the host table
    (--source ebpf,host). Dates need 14 days of history. Exit code 0: nothing is at risk, 1: something is, 3: a lead
    time was asked for and the history cannot say.

    \b
    netrec analyze capacity trace
    netrec analyze capacity trace --at-risk-within 30d --growth +30% --lose 1
    """
    need_statistics()
    import polars as pl

    from analyze import answer
    from analyze.capacity import document, gauges, services, traffic
    from analyze.frames import recorded
    from analyze.statistics.outlook import look, order

    asked = document.Asked(
        _percent(threshold, "--threshold"),
        _days(within),
        _percent(growth, "--growth", signed=True),
        lose,
        hosts or 0,
        every,
    )
    speed = _speed(link_speed)
    scan = session.open()
    if not scan.has("flows") and not scan.has("host"):
        scan.require("flows")
    import_meanwhile()
    with recorded() as queries:
        flows = traffic.load(scan) if scan.has("flows") else None
        resources = gauges.load(scan) if scan.has("host") else []
        if flows is None and not resources:
            raise UsageError(
                "the trace has no flow and no gauge in this time window", "widen it, or see netrec inspect"
            )
        parties = services.parties(scan, flows.busiest) if flows else pl.DataFrame()
        if flows:
            resources += [*traffic.resources(flows, speed), *services.port_use(scan, flows, parties)]
    notes = [] if scan.has("host") else ["this trace has no host table: record with --source ebpf,host for every limit"]
    extent = flows.extent if flows else _gauge_extent(scan)
    seen = len({resource.host for resource in resources})
    asked = replace(asked, hosts=hosts or seen)
    if lose and lose >= asked.hosts:
        raise UsageError(
            f"--lose {lose} leaves none of {asked.hosts} hosts", "name how many share the load with --hosts"
        )
    outlooks = order(
        [
            look(
                resource, threshold=asked.threshold, lead_days=asked.lead_days, growth=asked.growth,
                hosts=asked.hosts, lost=lose,
            )
            for resource in resources
        ]
    )  # fmt: skip
    sections = _sections(scan, flows, parties, outlooks, notes, queries, speed)
    for skipped in scan.skipped:
        session.say(str(skipped))
    return answer.write(document.build(outlooks, asked, extent, sections, notes, queries), session, scan)


def _sections(
    scan: Scan,
    flows: Traffic | None,
    parties: pl.DataFrame,
    outlooks: list[Outlook],
    notes: list[str],
    bins: list[str],
    speed: float | None,
) -> list[Section]:
    import polars as pl

    from analyze.answer import Drawing, Section
    from analyze.capacity import document, gauges, queueing, services, traffic
    from analyze.frames import recorded
    from analyze.header import Chart

    sections = []
    if flows:
        part = flows.busiest
        table = services.services(parties, part)
        if not part.whole:
            day = datetime.fromtimestamp(part.start / 1e6, UTC)
            notes.append(
                f"services, the choice of pairs and queueing are those of {day:%Y-%m-%d}, the busiest day (UTC)"
            )
        _check_little(scan, part, table, notes)
        bursts = Chart("curve", {"x": "bin_seconds", "y": "peak_over_mean", "series": "series"})
        labelled = traffic.bursts(flows).with_columns(series=pl.format("{}, {}", "host", "what"))
        sections = [
            Section(
                "services", "Services by open connections", table, document.COLUMNS, asked=bins,
                drawings=[Drawing("Open connections (mean)", Chart("bar", {"x": "mean_open", "y": "service"}))],
            ),
            Section(
                "bursts", "Bursts: peak over mean by bin size", labelled.drop("series"), document.COLUMNS, asked=bins,
                drawings=[Drawing("Peak over mean by bin size", bursts, labelled)],
            ),
            Section(
                "billing", "Billed: 95th percentile of 5-minute means", traffic.billing(flows), document.COLUMNS,
                asked=bins,
            ),
        ]  # fmt: skip
        with recorded() as loads:
            knees = queueing.knees(scan, part, services.loaded(parties), speed)
        sections.append(
            Section(
                "knees", "Where queueing begins", knees, queueing.COLUMNS,
                "no delay bends upwards with the load, as far as this trace shows", asked=loads,
            )
        )  # fmt: skip
        if said := queueing.sentence(knees):
            notes.append(said)
        notes.append("bursts shorter than a second show in no interval counter: look at the drops beside them")
    fullest = next((one for one in outlooks if one.resource.kind == "gauge"), None)
    if fullest:
        title = f"The ten highest readings of {fullest.resource.name}"
        with recorded() as queries:
            highest = gauges.highest(scan, fullest.resource)
        sections.append(Section("evidence", title, highest, document.COLUMNS, asked=queries))
    return sections


def _check_little(scan: Scan, part: Extent, table: pl.DataFrame, notes: list[str]) -> None:
    """Little's law against the counted entries of connection tracking: they must roughly agree."""
    from analyze.capacity import gauges, services
    from analyze.statistics.capacity import LITTLE_TOLERANCE, concurrency, little_gap

    counted = gauges.mean_of(scan, "conntrack", part.holds('"time"')) if scan.has("host") else None
    if not counted:
        return
    rate, life = services.mean_open(table)
    predicted = concurrency(rate, life, LITTLE_TIME_WAIT)
    gap = little_gap(predicted, counted)
    if gap > LITTLE_TOLERANCE:
        notes.append(
            f"the flows explain {predicted:,.0f} tracked connections and {counted:,.0f} were counted: "
            "some traffic is not in the flows, or the tracking's timeouts are not the usual ones"
        )


def _gauge_extent(scan: Scan) -> Extent:
    from analyze.capacity.traffic import Extent

    return Extent(*scan.fetch('select epoch_us(min("time")), epoch_us(max("time")) from host')[0])


def _percent(text: str, option: str, signed: bool = False) -> float:
    try:
        value = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a percentage", "write for example 30%") from None
    if value <= (-1 if signed else 0):
        raise UsageError(f"{option}: {text!r} is out of range", "write for example 30%")
    return value


def _days(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text) / 86_400
    except ValueError as problem:
        raise UsageError(f"--at-risk-within: {problem}") from None


def _speed(text: str | None) -> float | None:
    """Bytes per second of a speed in bits per second."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:bit/s|bps|bit)?", text.strip().lower())
    if not match or float(match[1]) == 0:
        raise UsageError(f"--link-speed: {text!r} is not a speed", "write for example 1Gbit/s or 10G")
    return float(match[1]) * _SPEED[match[2]] / 8
