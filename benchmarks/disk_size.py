"""Bytes per flow on disk, against nfdump's files of the same flows.

"Same information" holds what nfdump's records hold: times, addresses, ports, bytes and packets both ways. The complete
trace adds the process, container, close reason, round-trip times, retransmits and the rest.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import ipfix
from benchmarks.flow_history import history
from benchmarks.harness import Options, Report, Target, scratch

FLOWS = 10_000_000
COMPRESSIONS = {"none": "", "LZ4": "-y", "bz2": "-j"}
# The other compressions are tried on so many of them: bz2 takes minutes for all.
SOME = 500_000


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "flows").rglob("*.parquet"))


def run(options: Options) -> Report:
    flows = options.size(FLOWS, 200_000)
    data = history(flows)
    report = Report(["file", "bytes per flow", "against nfdump LZO"])
    report.notes.append(data.note)
    sizes = {
        "netrec, same information": _size(data.plain) / flows,
        "netrec, complete": _size(data.trace) / flows,
    }
    lzo = None
    if data.nfdump:
        lzo = sizes["nfdump, LZO (-z)"] = data.nfdump.stat().st_size / flows
        some = min(flows, SOME)
        with scratch() as folder:
            for name, option in COMPRESSIONS.items():
                file = ipfix.converted(data.nfdump, option, folder / name, some)
                sizes[f"nfdump, {name} (first {some:,} flows)"] = file.stat().st_size / some
        same = sizes["netrec, same information"] / lzo
        report.targets.append(Target("bytes per flow, same information, against nfdump LZO", same, 0.6, "x"))
    report.rows = [[name, size, size / lzo if lzo else None] for name, size in sizes.items()]
    return report
