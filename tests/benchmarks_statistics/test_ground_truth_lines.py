"""The ground truth's command works and can fail: its quick form, without the slow lines."""

from __future__ import annotations

import pytest

from benchmarks.statistics import __main__ as ground_truth
from benchmarks.statistics import comparison_lines, incident_lines, published_lines, rita_lines, security_lines
from benchmarks.statistics.lines import Line, Outcome, Scale

QUICK = Scale(quick=True)
FAST = [
    *published_lines.LINES,
    *[line for line in comparison_lines.LINES if "half the duration" not in line.name],
    *security_lines.LINES,
    *incident_lines.LINES[:2],
]


@pytest.mark.parametrize("line", FAST, ids=lambda line: line.name)
def test_line_holds_when_simulated_little(line: Line) -> None:
    outcome = line.measure(QUICK)
    assert outcome.holds, outcome.measured


def test_a_wrong_score_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rita_lines, "TIMING", (*rita_lines.TIMING, ([60.0] * 9, 0.99)))
    assert rita_lines.vectors(QUICK).holds is False


def test_a_failing_line_sets_the_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Line("two and two", "4", lambda scale: Outcome("5", False))
    monkeypatch.setattr(ground_truth, "tables", lambda: {"Sums": (bad,)})
    monkeypatch.setattr("sys.argv", ["statistics", "--quick"])
    assert ground_truth.main() == 1
    out = capsys.readouterr().out
    assert "NO   Sums: two and two" in out and "1 lines do not hold" in out
