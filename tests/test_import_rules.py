"""The house's import rules: data flows one way, and only the trace format crosses between the two sides."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# package -> what it may never import, at any depth of the file (imports inside functions count too)
FORBIDDEN = {
    "netrec/trace": {"recorder", "analyze", "queries", "duckdb", "polars", "bcc"},
    "netrec": {"recorder", "queries", "duckdb", "polars", "bcc"},
    "recorder": {"analyze", "queries", "duckdb", "polars", "pandas"},
    "analyze": {"recorder", "bcc"},
    "analyze/statistics": {"duckdb", "click", "rich", "pyarrow.parquet"},
    "queries": {"recorder", "bcc"},
}
# The root finds both sides by name at run time; netrec.open is the notebook's door. Nothing else may.
EXCEPTIONS = {"netrec/__init__.py": {"analyze"}}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules() -> list[Path]:
    return sorted(path for side in ("netrec", "recorder", "analyze", "queries") for path in (ROOT / side).rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_what_its_layer_may(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    for package, forbidden in FORBIDDEN.items():
        if not relative.startswith(package + "/"):
            continue
        allowed = EXCEPTIONS.get(relative, set())
        bad = {name for name in imported(path) for rule in forbidden if name == rule or name.startswith(rule + ".")}
        assert bad <= allowed, f"{relative} imports {sorted(bad - allowed)}: not allowed in {package}"


@pytest.mark.parametrize("path", sorted((ROOT / "recorder/sources").rglob("*.py")), ids=lambda path: path.name)
def test_sources_do_not_import_each_other(path: Path) -> None:
    own = path.relative_to(ROOT / "recorder/sources").parts[0]
    for name in imported(path):
        if name.startswith("recorder.sources."):
            assert name.split(".")[2] == own, f"{path} imports its sibling {name}"


def test_the_rules_can_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    import duckdb.typing\n    from recorder import source\n")
    assert {"duckdb.typing", "recorder", "recorder.source"} <= imported(bad)
