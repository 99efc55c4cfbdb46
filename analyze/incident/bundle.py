"""The evidence of an incident as one file: another engineer opens it, re-runs it, and gets the same answer.

A ZIP file with `answer.json`, `answer.txt`, the rows of every section as Parquet, `queries.sql` (every statement
that was run), the trace's own files of the time in question byte for byte under `trace/`, and `manifest.json`:
versions, the command that gives the answer again, and the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netrec
from analyze.answer import Answer, as_document
from netrec.errors import UsageError

if TYPE_CHECKING:
    from analyze.scan import Scan

README = """What is in this bundle
======================
answer.txt      the answer, for people
answer.json     the answer, for programs
rows/           the rows behind every table of the answer, as Parquet
trace/          the trace's own files of that time, unchanged: a netrec trace of its own
queries.sql     every statement that was run
manifest.json   versions, hashes, and the command below

To check it (exit code 1 and the names when a member is not as it was written), and to run it again:
    netrec verify {name}
    unzip {name} -d bundle && cd bundle
    {command}
"""


def write(
    path: str, answer: Answer, text: str, scans: Sequence[Scan], queries: Sequence[str], arguments: Sequence[str]
) -> None:
    """Write the bundle; it appears whole or not at all. Raises `UsageError` when it cannot be written."""
    import duckdb
    import polars

    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    command = " ".join(["netrec", "analyze", "incident", "trace", *arguments])
    hashes: dict[str, str] = {}

    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as bundle:

            def add(name: str, data: bytes, stored: bool = False) -> None:
                hashes[name] = hashlib.sha256(data).hexdigest()
                bundle.writestr(name, data, zipfile.ZIP_STORED if stored else None)

            add("answer.txt", text.encode())
            add("answer.json", (json.dumps(as_document(answer), indent=1) + "\n").encode())
            for section in answer.sections:
                buffer = io.BytesIO()
                section.frame.write_parquet(buffer)
                add(f"rows/{section.name}.parquet", buffer.getvalue(), stored=True)
            add("queries.sql", (";\n\n".join(queries) + ";\n").encode())
            for name, source in _trace_files(scans).items():
                add(name, source.read_bytes(), stored=True)
            add("README.txt", README.format(name=target.name, command=command).encode())
            manifest: dict[str, Any] = {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": command,
                "versions": {"netrec": netrec.__version__, "duckdb": duckdb.__version__, "polars": polars.__version__},
                "sha256": hashes,
            }
            bundle.writestr("manifest.json", json.dumps(manifest, indent=1) + "\n")
        partial.replace(target)
    except OSError as problem:
        raise UsageError(
            f"cannot write {path!r} ({problem.strerror})", "free some space or name another file"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _trace_files(scans: Sequence[Scan]) -> dict[str, Path]:
    """Name in the bundle -> the file, for every file that the scans opened."""
    found: dict[str, Path] = {}
    for scan in scans:
        for opened in scan.files.values():
            for file in opened:
                found[f"trace/{file.name.relative.as_posix()}"] = Path(file.path)
    return dict(sorted(found.items()))
