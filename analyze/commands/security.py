"""`netrec analyze security`: what looks unusual, with its evidence and how common it is. Findings, never verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from analyze.extras import need_statistics
from analyze.options import Session, common_options
from netrec.errors import UsageError
from netrec.text import parse_duration

if TYPE_CHECKING:
    import polars as pl

RECENT_SHARE = 0.1
KINDS = ("failed contacts", "many hosts", "many ports", "beacon", "new peer", "unusual volume")


@click.command("security", short_help="Scans, beacons, new peers, unusual volume: findings with their evidence.")
@click.option("--recent", metavar="DURATION", help="What counts as lately (default: the last tenth of the trace).")
@click.option(
    "--beacon-score", default=0.9, show_default=True, type=click.FloatRange(0, 1), help="Least score of a beacon."
)
@common_options()
def command(session: Session, recent: str | None, beacon_score: float) -> int:
    """Show sources whose contacts fail, that touch many hosts or ports, talk like clockwork, or do something new.

    Each finding says what was seen, how often, and how common it is; what it means is for you to judge. Exit code
    0: no finding, 1: findings.
    """
    need_statistics()
    import polars as pl

    from analyze import answer
    from analyze.capacity.traffic import Extent
    from analyze.security import contacts, regular, unusual

    scan = session.open()
    scan.require("flows")
    start, end, hosts = scan.fetch(
        "select epoch_us(min(start_time)), epoch_us(max(end_time)), count(distinct client_address) from flow"
    )[0]
    if start is None:
        raise UsageError("the trace has no flow in this time window", "widen it, or see netrec inspect")
    extent = Extent(start, end + 1)
    since = round(extent.end - _recent(recent, extent.seconds) * 1e6)
    parts = [
        contacts.scans(scan, hosts),
        contacts.spread(scan, hosts),
        regular.find(scan, extent.start, extent.end, hosts, beacon_score),
        unusual.new_peers(scan, since, hosts),
        unusual.volumes(scan, extent.start, extent.end, since, hosts),
    ]
    known = [part.select(contacts.COLUMNS).cast({"score": pl.Float64}) for part in parts if not part.is_empty()]
    found = pl.concat(known, how="vertical_relaxed") if known else pl.DataFrame()
    notes = []
    if extent.seconds < 6 * 3600:
        notes.append("beacons need six hours of trace to score fully; this one is shorter")
    section = answer.Section(
        "findings", "Findings", found, (answer.Column("prevalence", "DOUBLE", "ratio"),), "none",
        display=_shown(found) if known else None,
    )  # fmt: skip
    outcome = answer.Answer(
        "security", _sentence(found, hosts), 1 if known else 0, notes, [section],
        {"format": 1, "hosts": hosts, "seconds": extent.seconds},
    )  # fmt: skip
    for skipped in scan.skipped:
        session.say(str(skipped))
    return answer.write(outcome, session, scan)


def _sentence(found: pl.DataFrame, hosts: int) -> str:
    if found.is_empty():
        return f"No finding among {hosts:,} clients: no scan, beacon, new rare peer or unusual volume."
    counts = dict(found.group_by("kind").len().iter_rows())
    listed = ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if kind in counts)
    return f"{found.height} findings among {hosts:,} clients: {listed}."


def _shown(found: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return found.select(
        "kind",
        "source",
        "target",
        pl.col("score").map_elements(lambda score: f"{score:.2f}", return_dtype=pl.String),
        pl.col("prevalence").map_elements(lambda share: f"{share:.1%}", return_dtype=pl.String).alias("how common"),
        "first",
        "evidence",
    )


def _recent(text: str | None, seconds: float) -> float:
    if text is None:
        return RECENT_SHARE * seconds
    try:
        return parse_duration(text)
    except ValueError as problem:
        raise UsageError(f"--recent: {problem}") from None
