"""Names for addresses: what the host asked its resolvers for gives flows that follow the name of their ends.

A source that reads DNS answers knows them; the rows of every source get them, unless the session told a name itself
(TLS, HTTP).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from netrec.trace.columns import text, values
from recorder.dns.names import NameTable
from recorder.relayed import Named
from recorder.source import Source

_MAXIMUM_PID = 1 << 22


def fill(flows: list[Named], sources: Mapping[str, Source]) -> list[Named]:
    """The same batches of flows, with `server_name` and `client_name` where a source has learned them and none is set.

    A name counts for a flow that began while it held: asked for by the flow's own process, else by any in its network
    namespace.
    """
    known = [names for source in sources.values() if hasattr(source, "names") and (names := source.names())]
    for names, offset_us in known:
        if len(names):
            flows = [(name, _server(_client(batch, names, offset_us), names, offset_us)) for name, batch in flows]
    return flows


def _server(batch: pa.RecordBatch, names: NameTable, offset_us: int) -> pa.RecordBatch:
    pid, nobody = values(batch.column("process_pid"))
    found = _names(batch, "server", np.where(nobody, 0, pid), names, offset_us)
    if found is None:
        return batch
    new, column = found
    sources = _with(batch.column("server_name_source"), new, np.where(new, 0, -1), ["dns"])
    return _set(_set(batch, "server_name", column), "server_name_source", sources)


def _client(batch: pa.RecordBatch, names: NameTable, offset_us: int) -> pa.RecordBatch:
    found = _names(batch, "client", np.zeros(batch.num_rows, np.int64), names, offset_us)
    return batch if found is None else _set(batch, "client_name", found[1])


def _names(
    batch: pa.RecordBatch, end: str, pid: np.ndarray, names: NameTable, offset_us: int
) -> tuple[np.ndarray, pa.DictionaryArray] | None:
    """Which rows get a name for this end, and the new column; None: none does."""
    begun, open_before = values(batch.column("flow_start_time"))
    since, _ = values(batch.column("start_time"))
    # A TCP connection that was open before may have begun long ago; of other flows the first packet counts.
    transport = batch.column("transport")
    tcp = np.array([one == "tcp" for one in transport.dictionary.to_pylist()])[values(transport.indices)[0]]
    moment = np.where(open_before, np.where(tcp, -1, since), begun) - offset_us
    addresses, unknown = values(batch.column(f"{end}_address").indices)
    _, nameless = values(batch.column(f"{end}_name").indices)
    rows = np.flatnonzero(nameless & ~unknown & (moment >= 0))
    spaces, space = np.unique(values(batch.column("netns"))[0][rows], return_inverse=True)
    asked = (addresses[rows].astype(np.int64) << 42) | (space << 22) | (pid[rows] % _MAXIMUM_PID)
    groups, group, sizes = np.unique(asked, return_inverse=True, return_counts=True)
    ordered = rows[np.argsort(group, kind="stable")]
    texts = batch.column(f"{end}_address").dictionary
    places: dict[str, int] = {}
    chosen = np.full(batch.num_rows, -1, np.int32)
    for key, size, stop in zip(groups.tolist(), sizes, np.cumsum(sizes), strict=True):
        address, netns = texts[key >> 42].as_py(), int(spaces[key >> 22 & 0xFFFFF])
        for learned in names.history(address, netns, key & (_MAXIMUM_PID - 1)):
            alike = ordered[stop - size : stop]
            holds = alike[(moment[alike] >= learned.since_us) & (moment[alike] <= learned.until_us)]
            chosen[holds] = places.setdefault(learned.name, len(places))
    if not places:
        return None
    new = chosen >= 0
    return new, _with(batch.column(f"{end}_name"), new, chosen, list(places))


def _with(column: pa.DictionaryArray, new: np.ndarray, codes: np.ndarray, texts: list[str]) -> pa.DictionaryArray:
    """The column with these texts where `new` is true."""
    before, null = values(column.indices)
    known = column.dictionary.to_pylist()
    return text(np.where(new, codes + len(known), before), [*known, *texts], null & ~new)


def _set(batch: pa.RecordBatch, name: str, column: pa.DictionaryArray) -> pa.RecordBatch:
    place = batch.schema.get_field_index(name)
    return batch.set_column(place, batch.schema.field(place), column)
