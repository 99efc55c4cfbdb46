"""Once every source records, this process gives up each capability that nothing here needs any more, for good.

Each source says what it needs while it records (`capabilities`). The recorder itself needs none, unless the trace is in
a folder where root can write only because it is root.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from netrec.errors import CannotRecordError
from recorder import capabilities
from recorder.source import Source


@dataclass(frozen=True)
class Kept:
    """What is left: capability -> what needs it; and the older threads that could not be reached."""

    reasons: dict[str, str]
    threads: list[str]

    def __str__(self) -> str:
        kept = ", ".join(f"CAP_{name.upper()} ({why})" for name, why in sorted(self.reasons.items())) or "none"
        older = f"; older threads have more: {', '.join(self.threads)}" if self.threads else ""
        return f"capabilities kept: {kept}{older}"


def needed(sources: Iterable[tuple[str, Source]], trace: Path) -> dict[str, str]:
    """Capability -> what needs it while it records, of those that this process has."""
    found: dict[str, list[str]] = {}
    for name, source in sources:
        for capability in getattr(source, "capabilities", tuple)():
            found.setdefault(capability, []).append(name)
    if not _writable_by_owner(trace):
        found.setdefault("dac_override", []).append("the trace is in a folder of another user")
    have = capabilities.effective()
    return {capability: ", ".join(names) for capability, names in found.items() if capability in have}


def give_up(sources: Iterable[tuple[str, Source]], trace: Path) -> Kept:
    """Keep what is needed and nothing else; call it when every source has started. Raises `CannotRecordError`."""
    reasons = needed(sources, trace)
    return Kept(reasons, capabilities.keep_only(reasons))


def _writable_by_owner(trace: Path) -> bool:
    """Whether the trace's folders can be written without any capability: a thread that has none tries."""
    answers: list[bool] = []

    def look() -> None:
        try:
            capabilities.keep_only(())  # of this thread, which ends here
        except CannotRecordError:
            return
        folders = [trace, *(Path(at, name) for at, names, _ in os.walk(trace) for name in names)]
        mode = os.R_OK | os.W_OK | os.X_OK
        answers.append(all(os.access(folder, mode, effective_ids=True) for folder in folders))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return answers == [True]
