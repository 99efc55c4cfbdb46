from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from netrec import cli
from tests.analyze.traces import everyday


@dataclass
class Answer:
    """What one run of netrec printed, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return everyday(tmp_path / "trace")


@pytest.fixture
def netrec(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Answer]:
    """Run a netrec command line in this process."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def run(*arguments: object) -> Answer:
        given = [str(argument) for argument in arguments]
        monkeypatch.setattr("sys.argv", ["netrec", *given])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(given)
        printed = capsys.readouterr()
        return Answer(int(ended.value.code or 0), printed.out, printed.err)

    return run
