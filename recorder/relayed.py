"""One byte is counted once: the sockets of a proxy carry traffic that the proxy's own rows count already.

When two sources record into one capture and one of them is a proxy, the other sees the proxy's two sockets of every
session as two more flows. Their rows stay (they hold what only the kernel knows), marked as duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from recorder.source import Source

Named = tuple[str, pa.RecordBatch]


def mark(flows: list[Named], sources: Mapping[str, Source]) -> list[Named]:
    """The same batches of flows, with `duplicate` set where the owner is a process of another source's proxy."""
    relays = {name: source.relays() for name, source in sources.items() if hasattr(source, "relays")}
    if not any(relays.values()) or len(sources) == 1:
        return flows
    marked = []
    for name, batch in flows:
        others = {pid for source, pids in relays.items() if source != name for pid in pids}
        if others and batch.num_rows:
            own = pc.is_in(batch.column("process_pid"), value_set=pa.array(sorted(others), pa.int32()))
            place = batch.schema.get_field_index("duplicate")
            known = pc.fill_null(batch.column("duplicate"), False)
            batch = batch.set_column(place, batch.schema.field(place), pc.or_(known, own))
        marked.append((name, batch))
    return marked
