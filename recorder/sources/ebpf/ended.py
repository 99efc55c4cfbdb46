"""Rows of the connections that have ended: their records wait in memory and become rows piece by piece.

Where flows that are alike share a row (`together`) those of a whole reading are gathered at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from recorder.sources.ebpf.intake import Intake
from recorder.sources.ebpf.live import LiveFlows
from recorder.sources.ebpf.rows import RowMaker, closes

_NOTHING = (np.empty(0, np.uint64), np.empty(0, np.int64))


class EndedFlows:
    """What `intake` gives, as rows of `maker`; `live` knows what was already counted of each flow.

    `numbered`: events may name flows after they have ended. `ports` are those of clients that stay apart when flows are
    gathered (`gather.client_ports`). Attributes: `together`; `last_ids`, of what the last `take` has given; `records`
    and `owners_known`, counts that the reader resets.
    """

    def __init__(
        self,
        intake: Intake,
        live: LiveFlows,
        maker: RowMaker,
        *,
        numbered: bool = False,
        ports: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._intake, self._live, self._maker = intake, live, maker
        self._numbered, self._ports = numbered, ports
        self._gone: list[tuple[np.ndarray, np.ndarray]] = []
        self.together = False
        self.last_ids = _NOTHING[0]
        self.records = self.owners_known = 0

    def drain(self) -> int:
        """Empty the ring into memory; how many bytes there were."""
        return self._intake.drain()

    def take(self, others: np.ndarray, *, last: bool = False) -> Iterator[pa.RecordBatch]:
        """Rows of what has ended since the last call; `others` are records that did not come by the ring.

        The ring is emptied in between; `last`: until nothing is left, because nothing comes any more.
        """
        self.drain()
        if self.together:
            parts = [self._intake.all()]
            while last and self.drain():
                parts.append(self._intake.all())
            parts += [others] if len(others) else []
            yield from self._rows(np.concatenate(parts) if len(parts) > 1 else parts[0])
        else:
            for records in self._intake.pieces(last=last):
                yield from self._rows(records)
            yield from self._rows(others)
        ids, numbers = (np.concatenate(parts) for parts in zip(_NOTHING, *self._gone, strict=True))
        if self._numbered and len(ids):
            self._live.remember(ids, numbers)
        self.last_ids, self._gone = ids, []

    def _rows(self, records: np.ndarray) -> Iterator[pa.RecordBatch]:
        if not len(records):
            return
        new = self._live.deltas(records)
        self._live.forget(records["id"])
        self._gone.append((records["id"].copy(), new["flow_id"]))
        self.records += len(records)
        self.owners_known += int(np.count_nonzero(records["owner_source"]))
        if self.together:
            from recorder.sources.ebpf.gather import together

            records, new = together(records, new, closes(records), self._ports)
        yield self._maker.rows(records, new, "end")
