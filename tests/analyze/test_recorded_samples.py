"""The analyses on the recorded samples: the pattern, the place, the moment and the scanner that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.analyze.conftest import Answer

Run = Callable[..., Answer]
SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
TOLD = {path.parent.name: json.loads(path.read_text()) for path in SAMPLES.glob("*/known.json")}
INCIDENTS = sorted(name for name, known in TOLD.items() if "incident" in known)


def answer(netrec: Run, analysis: str, name: str) -> dict[str, Any]:
    found = netrec("analyze", analysis, SAMPLES / name, "--format", "json")
    assert found.code == 1, found.err
    told: dict[str, Any] = json.loads(found.out)
    return told


@pytest.mark.parametrize("name", INCIDENTS)
def test_a_recorded_incident_is_named_where_and_when_it_was(netrec: Run, name: str) -> None:
    known = TOLD[name]
    told = answer(netrec, "incident", name)
    assert told["pattern"] == known["incident"]["pattern"]
    assert known.get("service", known.get("copy", {}).get("service")) in told["sentence"]
    phase = known["phases"][known["incident"]["phase"]]
    begun, told_begin = (datetime.fromisoformat(text) for text in (phase["since"], told["window"]["since"]))
    assert abs((told_begin - begun).total_seconds()) <= 5


def test_the_scanner_is_named_and_nobody_else(netrec: Run) -> None:
    told = answer(netrec, "security", "port-scan")
    assert {row["source"] for row in told["findings"]} == {TOLD["port-scan"]["scanner"]}
