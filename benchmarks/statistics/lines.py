"""What a line of the ground truth is: an aim, and how it is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

MISSING = "not measured: needs --published FOLDER"


@dataclass(frozen=True)
class Scale:
    """How much is simulated: `quick` for a test that the command works, and where published data lie (or None)."""

    quick: bool = False
    published: Path | None = None

    def runs(self, full: int, quick: int) -> int:
        """The number of repetitions."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Outcome:
    """What was measured, and whether the aim is met; None: it could not be measured here."""

    measured: str
    holds: bool | None


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    name: str
    aim: str
    measure: Callable[[Scale], Outcome]


def autoregressive(generator: np.random.Generator, size: int, length: int, rho: float) -> np.ndarray:
    """AR(1) noise of unit variance: shape (size, length)."""
    noise = generator.standard_normal((size, length + 200)) * np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], noise, axis=1)[:, 200:]


def published(scale: Scale, project: str, path: str) -> bytes | None:
    """A file of a project, from an unpacked folder or the newest commit of a git clone; None when it is not there."""
    if scale.published is None:
        return None
    folder = scale.published / project
    if (folder / path).is_file():
        return (folder / path).read_bytes()
    if not folder.is_dir():
        return None
    shown = subprocess.run(["git", "-C", str(folder), "show", f"HEAD:{path}"], capture_output=True, check=False)
    return shown.stdout if shown.returncode == 0 else None


def percent(share: float) -> str:
    """`4.2%`."""
    return f"{share:.1%}"
