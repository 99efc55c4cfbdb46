"""The front doors: make, the continuous integration, and that the set-up does nothing twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [ROOT / ".ci" / "run", ROOT / "scripts" / "setup", ROOT / "scripts" / "demo"]


def test_make_alone_explains_every_target() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())  # type: ignore[index]
    # These tests may run under `make test`: what that make tells its children is not for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(["make"], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=30).stdout
    assert {line.split()[1] for line in shown.splitlines()} == targets
    assert {"setup", "demo", "test", "lint", "bench", "docs", "clean"} <= targets


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_stop_at_the_first_error(script: Path) -> None:
    assert script.stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in script.read_text()
    subprocess.run(["bash", "-n", script], check=True, timeout=30)


def test_ci_runs_lint_and_test() -> None:
    assert re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(), re.M) == ["lint", "test"]


@pytest.fixture
def fake_machine(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of the set-up, and a PATH whose package tools only note what they were asked."""
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", checkout / "scripts")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    tools.mkdir()
    for name, body in {
        "dpkg-query": '[ -e "$(dirname "$0")/installed" ] && printf installed',
        "apt-get": 'echo "$@" >> "$(dirname "$0")/log"; touch "$(dirname "$0")/installed"',
        "python3": 'if [ "$1" = -m ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/netrec"; fi',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{body}\nexit 0\n" if name != "dpkg-query" else f"#!/bin/sh\n{body}\n")
        (tools / name).chmod(0o755)
    return checkout, {"PATH": f"{tools}:/usr/bin:/bin", "HOME": str(tmp_path)}


@pytest.mark.kernel
def test_setup_installs_what_is_missing_once(fake_machine: tuple[Path, dict[str, str]]) -> None:
    checkout, environment = fake_machine
    log = checkout.parent / "tools" / "log"
    first = subprocess.run(["scripts/setup", "run"], capture_output=True, text=True, cwd=checkout, env=environment)
    assert first.returncode == 0, first.stderr
    asked = log.read_text().splitlines()
    assert asked[0].startswith("update") and "python3-bpfcc" in asked[1] and "nginx" not in asked[1]
    again = subprocess.run(["scripts/setup", "run"], capture_output=True, text=True, cwd=checkout, env=environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert log.read_text().splitlines() == asked
