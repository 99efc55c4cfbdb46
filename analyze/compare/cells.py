"""Narrow rows of one side -> its counts and histograms: every row adds to its place in a few tables.

Places are arithmetic on whole columns: counting so takes a fifth of the time of grouping, and no row is kept. A row's
cell is its time bucket and its stratum; the close of its connection and the like are one small number (`code_sql`), and
what is counted is told from that number once, not for every row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from analyze.compare.lookup import ABSENT, Lookup
from analyze.statistics.batch_t import BATCHES
from analyze.statistics.quantiles import NOT_POSITIVE, bin_of

if TYPE_CHECKING:
    import pyarrow

# A place in a list is found once for every different text.
_CLOSES = ("connect_failed", "timeout", "rst_sent", "rst_received")
_CODES = 8 * (len(_CLOSES) + 1)
# Places of a histogram: 0 no value, 1 a value <= 0, then the bins, up to that of the largest whole number.
_FIRST_BIN = 2
_PLACES = _FIRST_BIN + int(bin_of(2**63 - 1)) + 1
_NONE = -(2**63)  # a value that is not there
_USUAL = 2**18  # values below it have their places listed


def code_sql(opened: str) -> str:
    """SQL over `flow` for the number that says what a row counts for; `opened` is SQL that is never null."""
    close = f"greatest(list_position({list(_CLOSES)!r}, tcp_close), 0)"  # as coalesce(), and faster
    return (
        f"(({opened})::TINYINT + 2 * coalesce(transport = 'tcp', false)::TINYINT + "
        f"4 * (tcp_close is not null)::TINYINT + 8 * {close})::TINYINT"
    )


def value_sql(value: str) -> str:
    """SQL for a value of a histogram, a whole number or null."""
    # As coalesce(), and faster.
    return f"greatest({value}, {_NONE})::BIGINT"


def counted_of(told: Mapping[str, str]) -> pl.DataFrame:
    """Whether each code counts, a row a code, a column a name of `told`: an SQL condition on the facts opened, tcp,
    ended, failed, timed_out and reset.
    """
    code = pl.int_range(_CODES, eager=True)
    close = code // 8
    facts = pl.DataFrame(
        {
            "opened": code % 2 == 1,
            "tcp": code // 2 % 2 == 1,
            "ended": code // 4 % 2 == 1,
            "failed": close == 1,
            "timed_out": close == 2,
            "reset": close.is_in([3, 4]),
        }
    )
    return facts.select(pl.sql_expr(condition).alias(name) for name, condition in told.items())


class Cells:
    """Tables of `buckets` x `strata` that batches of rows are added to.

    A batch has the columns time (microseconds since 1970; `bucket_of` gives the buckets of many, -1 for one that is
    left out), key (of which `stratum_of` knows the stratum: rows of others are left out), code,
    one for each of `sums`, `value_<histogram>` for each of `histograms`, and, where rows stand for several flows,
    weight (how many) and evidence (how many count as recorded).
    """

    def __init__(
        self,
        buckets: int,
        bucket_of: Callable[[NDArray[np.int64]], NDArray[np.int64]],
        strata: int,
        stratum_of: Lookup,
        sums: Sequence[str],
        histograms: Sequence[str],
    ) -> None:
        self.buckets, self.bucket_of, self.strata, self.stratum_of = buckets, bucket_of, strata, stratum_of
        cells = np.arange(buckets * strata)
        self._bucket = cells // strata
        batch = self._bucket * BATCHES // buckets
        self._group = batch * strata + cells % strata
        self._places = np.r_[np.int16(1), _FIRST_BIN + bin_of(np.arange(1, _USUAL))].astype(np.int16)
        self._sums = {name: np.zeros(len(cells)) for name in sums}
        self._codes = {name: np.zeros((len(cells), _CODES), np.int64) for name in ("weight", "evidence")}
        self._in_buckets = {name: np.zeros((buckets, _PLACES), np.int64) for name in histograms}
        self._in_groups = {name: np.zeros((BATCHES * strata, _PLACES), np.int64) for name in histograms}

    def add(self, batch: pyarrow.RecordBatch) -> None:
        """Count the rows of a batch. Large ones are better: every time, all tables are added up."""
        # Not to_numpy(): that imports pandas where it is installed, a third of a second.
        columns: dict[str, Any] = {name: np.from_dlpack(batch.column(name)) for name in batch.schema.names}
        stratum, bucket = self.stratum_of.find(columns["key"]), self.bucket_of(columns["time"])
        known = (stratum != ABSENT) & (bucket >= 0)
        if not known.all():
            stratum, bucket = stratum[known], bucket[known]
            columns = {name: column[known] for name, column in columns.items()}
        cell = bucket * self.strata + stratum
        evidence = columns.get("evidence")
        for name, table in self._codes.items():
            # Without weights both are the same.
            if name == "evidence" or evidence is not None:
                _add(table, cell, columns["code"], columns.get(name))
        for name, total in self._sums.items():
            total += np.bincount(cell, columns[name], len(total))
        group = self._group[cell]
        for name in self._in_buckets:
            places = self._place(columns[f"value_{name}"])
            _add(self._in_buckets[name], bucket, places)
            _add(self._in_groups[name], group, places, evidence)

    def frames(
        self, told: Mapping[str, str], absolute: Iterable[str], strata: Sequence[str]
    ) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
        """What was counted: by bucket (every one; with the mean bin of each histogram's positive values as log_<name>),
        by batch and stratum, and the histograms (histogram, batch, stratum, bin, count). `told` are the counts that
        codes tell (see `counted_of`), `absolute` those of them that count whole weights.
        """
        counts = {name: total.astype(np.int64) for name, total in self._sums.items()}
        weighted = self._codes["weight"].any()
        for name, counted in counted_of(told).to_dict().items():
            which = "weight" if weighted and name in absolute else "evidence"
            counts[name] = self._codes[which][:, counted.to_numpy()].sum(axis=1)
        buckets = pl.DataFrame({"bucket": np.arange(self.buckets, dtype=np.int32)}).with_columns(
            *(pl.Series(name, _by(self._bucket, column, self.buckets)) for name, column in counts.items()),
            *(_mean_bin(table).alias(f"log_{name}") for name, table in self._in_buckets.items()),
        )
        groups = self._group_keys(np.arange(BATCHES * self.strata), strata)
        by_group = groups.with_columns(
            pl.Series(name, _by(self._group, column, len(groups))) for name, column in counts.items()
        ).filter(pl.any_horizontal(pl.col(list(counts)) > 0))
        histograms = [self._histogram(name, table, strata) for name, table in self._in_groups.items()]
        return buckets, by_group, pl.concat(histograms)

    def _place(self, values: NDArray[np.int64]) -> NDArray[np.int16]:
        places = self._places[np.clip(values, 0, _USUAL - 1)]
        places[values == _NONE] = 0
        large = np.flatnonzero(values >= _USUAL)
        places[large] = _FIRST_BIN + bin_of(values[large])
        return places

    def _histogram(self, name: str, table: NDArray[np.int64], strata: Sequence[str]) -> pl.DataFrame:
        group, place = np.nonzero(table[:, 1:])
        bins = np.where(place == 0, NOT_POSITIVE, place + 1 - _FIRST_BIN).astype(np.int16)
        keys = self._group_keys(group, strata)
        return keys.select(
            pl.lit(name).alias("histogram"), "batch", "stratum", pl.Series("bin", bins),
            pl.Series("count", table[group, place + 1]),
        )  # fmt: skip

    def _group_keys(self, group: NDArray[np.int64], strata: Sequence[str]) -> pl.DataFrame:
        names = pl.Series(strata, dtype=pl.String).gather(group % self.strata)
        return pl.DataFrame({"batch": (group // self.strata).astype(np.int32), "stratum": names})


def _add(
    table: NDArray[np.int64],
    rows: NDArray[np.int64],
    places: NDArray[np.int16],
    weights: NDArray[np.int64] | None = None,
) -> None:
    """Add one, or the weight, at every (row, place)."""
    # Most bins are never met: the table of a batch is as narrow as it can be.
    span = int(places.max(initial=0)) + 1
    counted = np.bincount(rows * span + places, weights, len(table) * span)
    table[:, :span] += counted.reshape(-1, span).astype(np.int64, copy=False)


def _by(keys: NDArray[np.int64], column: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Sums of a column by key; whole numbers, exactly."""
    found = np.zeros(number, np.int64)
    np.add.at(found, keys, column)
    return found


def _mean_bin(table: NDArray[np.int64]) -> pl.Series:
    """The mean bin of each row's positive values; null where it has none."""
    positive = table[:, _FIRST_BIN:]
    number = positive.sum(axis=1)
    total = positive @ np.arange(positive.shape[1])
    with np.errstate(invalid="ignore"):
        return pl.Series(total / number).fill_nan(None)
