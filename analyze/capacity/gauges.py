"""The host table -> every resource's use, its limit and its daily peaks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from analyze.frames import frame
from analyze.statistics.outlook import Resource

if TYPE_CHECKING:
    from analyze.scan import Scan

TOP_INTERVALS = 10
# One client's ports to one server are in the largest of them, `ephemeral_ports`.
_PARTS = "resource not like '%->%'"


# What a gauge that counts drops tells of: the name of the resource. (conntrack_insert_failed is no sign of a full
# table: two packets began the same connection.)
_DROPPING = """case
    when starts_with(resource, 'link_drops:') then replace(resource, 'link_drops:', 'link:')
    when resource = 'conntrack_drop' then 'conntrack'
  end"""


def load(scan: Scan) -> list[Resource]:
    """Every gauge that has a limit, of every host, with its drops where these are counted."""
    days = frame(
        scan,
        "select coalesce(host, '(unknown)') as host, resource, any_value(unit) as unit, "
        'epoch_us("time") // 86400000000 as day, max(used) as peak, max("limit") as top, '
        'arg_max(used, "time") as last, epoch_us(max("time")) as moment '
        f'from host where "limit" > 0 and {_PARTS} group by 1, 2, 4 order by 1, 2, 4',
    )
    resources = [_resource(part) for _, part in days.group_by("host", "resource", maintain_order=True)]
    known = {(one.host, one.name) for one in resources}
    drops = _counted_drops(scan) | _queue_drops(scan, known)
    return [
        replace(one, drops=drops.get((one.host, one.name), math.nan), drops_when_full=_drops_when_full(one.name))
        for one in resources
    ]


def _drops_when_full(name: str) -> bool:
    """A device also counts as dropped what it received and nobody wanted: unknown protocols, other networks' frames."""
    return not (name.startswith("link:") and name.endswith(":rx"))


def _counted_drops(scan: Scan) -> dict[tuple[str, str], float]:
    """(host, resource) -> what the kernel's counters say that it dropped."""
    found = scan.fetch(
        f"select coalesce(host, '(unknown)'), {_DROPPING} as dropping, sum(used) from host "
        "where dropping is not null group by 1, 2"
    )
    return {(host, name): drops for host, name, drops in found}


def _queue_drops(scan: Scan, known: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """(host, listen queue) -> the connections that it turned away, as events tell: the kernel's counter of the socket,
    or its reasons for drops. A queue for every address is named `*`.
    """
    if not scan.has("events"):
        return {}
    drops: dict[tuple[str, str], float] = {}
    for host, server, port, overflows in scan.fetch(
        "select coalesce(host, '(unknown)'), case when contains(server_address, ':') then '[' || server_address || ']' "
        "else server_address end, server_port, greatest(sum(count) filter (kind = 'listen_overflow'), "
        "sum(count) filter (kind = 'drop' and reason = 'TCP_LISTEN_OVERFLOW')) as overflows "
        "from events group by 1, 2, 3 having overflows > 0"
    ):
        names = [(host, f"listen_queue:{address}:{port}") for address in (server, "*", "[::]")]
        name = next((one for one in names if one in known), None)
        if name:
            drops[name] = drops.get(name, 0.0) + overflows
    return drops


def highest(scan: Scan, resource: Resource) -> pl.DataFrame:
    """The ten highest readings of a resource: its evidence."""
    return frame(
        scan,
        'select "time", host, resource, used, "limit", used / "limit" as share, unit from host '
        "where resource = $resource and coalesce(host, '(unknown)') = $host "
        f'order by used desc, "time" limit {TOP_INTERVALS}',
        {"resource": resource.name, "host": resource.host},
    )


def mean_of(scan: Scan, name: str, condition: str) -> float | None:
    """Mean of a gauge over the readings that meet an SQL condition; None when it was not read."""
    found = scan.fetch(f"select avg(used) from host where resource = $name and {condition}", {"name": name})
    return found[0][0]


def _resource(part: pl.DataFrame) -> Resource:
    last = part.row(part.height - 1, named=True)
    return Resource(
        host=last["host"],
        name=last["resource"],
        unit=last["unit"] or "",
        now=last["last"],
        peak=float(part["peak"].max()),  # type: ignore[arg-type]
        limit=last["top"],
        days=by_day(part, "peak"),
        limits=by_day(part, "top"),
    )


def by_day(part: pl.DataFrame, column: str) -> np.ndarray:
    """One value a calendar day from the first to the last, NaN for a day without."""
    days = part["day"].to_numpy()
    values = np.full(int(days[-1] - days[0]) + 1, np.nan)
    values[days - days[0]] = part[column].cast(pl.Float64).to_numpy()
    return values
