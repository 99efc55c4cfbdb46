"""Figures go into a page between their markers and nowhere else; a peer that is too old is named, not measured."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.__main__ import place
from benchmarks.harness import PeerMissing, Report
from benchmarks.sources import compare, mitmproxy

PAGE = "before\n\n<!-- one.name -->\nold\n<!-- end of one.name -->\n\nafter\n"


def reports(*rows: list[object], columns: tuple[str, ...] = ("", "a")) -> dict[str, tuple[ModuleType, Report]]:
    return {"one.name": (compare, Report(columns, list(rows)))}


def test_figures_go_between_their_markers() -> None:
    page = place(PAGE, reports(["rate", 2.0]))
    assert page is not None
    assert page.startswith("before\n\n<!-- one.name -->\n") and page.endswith("<!-- end of one.name -->\n\nafter\n")
    assert "| rate | 2 |" in page and "old" not in page
    again = place(page, reports(["rate", 3.0]))
    assert again == page.replace("| rate | 2 |", "| rate | 3 |")


def test_a_page_without_markers_or_a_benchmark_that_did_not_run_changes_nothing() -> None:
    assert place("no markers\n", reports(["rate", 2.0])) is None
    assert place(PAGE, reports(columns=("result",))) == PAGE


def test_the_page_has_markers_for_the_comparison() -> None:
    page = (Path(__file__).parents[2] / "docs" / "choosing-a-source.md").read_text()
    assert page.count("<!-- sources.compare -->") == page.count("<!-- end of sources.compare -->") == 1


def test_a_mitmproxy_that_is_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitmproxy, "CACHE", tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(PeerMissing, match=r"no mitmproxy of version 12 or later in the search path or in"):
        mitmproxy.find()
    program = tmp_path / "mitmdump"
    program.write_text("#!/bin/sh\necho 'Mitmproxy: 11.0.2'\n")
    program.chmod(0o755)
    with pytest.raises(PeerMissing, match=r"mitmdump is 11\.0\.2"):
        mitmproxy.find()
    program.write_text("#!/bin/sh\necho 'Mitmproxy: 12.1'\n")
    assert mitmproxy.find() == (str(program), "12.1")
