"""The first pass over both sides, begun before the libraries are loaded that the rest of a comparison needs.

DuckDB reads in threads of its own while Python imports: this module and what it rests on import neither NumPy nor
Polars. What the pass finds becomes an outline in `measure`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyze import counting

if TYPE_CHECKING:
    from analyze.result import Result
    from analyze.scan import Scan

KEYS = ("server_port", "server_name", "role", "client_address", "server_address")
HASH_SQL = f"hash({', '.join(f'flow.{key}' for key in KEYS)})"


@dataclass(frozen=True)
class FirstPass:
    """Every combination of `KEYS` (its columns) with its number of rows, first and last end_time (microseconds), least
    and most sampling; and the SQL that tells them.
    """

    sql: str
    result: Result


@contextlib.contextmanager
def begun(scans: Sequence[Scan]) -> Iterator[list[Future[FirstPass]]]:
    """The first passes over these scans, running while the block does; when it fails they are broken off."""
    with ThreadPoolExecutor(len(scans)) as pool:
        try:
            yield [pool.submit(_read, scan) for scan in scans]
        except BaseException:
            for scan in scans:
                scan.connection.interrupt()
            raise


def _read(scan: Scan) -> FirstPass:
    keys = ", ".join(f"{key!r}: flow.{key}" for key in KEYS)
    # Of every row, this would be a tenth of the pass.
    sampled = "coalesce(sampling_interval, 1)" if counting.is_weighted(scan) else ""
    least, most = (f"{extreme}({sampled})::BIGINT" if sampled else "1" for extreme in ("min", "max"))
    # Rows are told apart by the hash of their keys, as in `cells`: grouping by five texts takes half as long again.
    sql = (
        f"select {', '.join(f'key.{key} as {key}' for key in KEYS)}, count, first, last, least, most "
        f"from (select {HASH_SQL}, first({{{keys}}}) as key, count(*) as count, "
        "epoch_us(min(end_time)) as first, epoch_us(max(end_time)) as last, "
        f"{least} as least, {most} as most from flow group by 1)"
    )
    return FirstPass(sql, scan.query(sql))
