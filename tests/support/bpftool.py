"""What BPF objects the kernel has, as bpftool lists them."""

from __future__ import annotations

import json
import subprocess
from typing import Any


def bpftool(*words: str, tries: int = 20) -> list[dict[str, Any]]:
    """The objects that `bpftool WORDS` lists; where the list is empty it may print nothing.

    An object that goes while they are listed, whoever's it is, makes bpftool fail: it is asked again. Raises
    `RuntimeError` when it fails that many times in a row.
    """
    for _ in range(tries):
        listed = subprocess.run(["bpftool", "-j", *words], capture_output=True, text=True, timeout=30)
        if listed.returncode == 0:
            return json.loads(listed.stdout.strip() or "[]")
    raise RuntimeError(f"bpftool {' '.join(words)}: {listed.stdout}{listed.stderr}")
