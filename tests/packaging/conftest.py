"""The Debian package, built once, and what is in it."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.support.namespaces import ROOT

PACKAGING = ROOT / "packaging"


def run(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False, cwd=cwd, env=env)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without its dependencies, for which the tests' own stand in: it takes seconds, not a minute."""
    environment = {**os.environ, "PIP_NO_DEPS": "1", "PYTHON": sysconfig.get_config_var("BINDIR") + "/python3"}
    built = run(PACKAGING / "debian" / "build", tmp_path_factory.mktemp("deb"), env=environment)
    return Path(built.stdout.strip())


@pytest.fixture(scope="session")
def tree(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    run("dpkg-deb", "--extract", package, folder)
    return folder
