"""What a line of the ground truth is: an aim, and how it is measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import lfilter


@dataclass(frozen=True)
class Scale:
    """How much is simulated: `quick` for a test that the command works."""

    quick: bool = False

    def runs(self, full: int, quick: int) -> int:
        """The number of repetitions."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Outcome:
    """What was measured, and whether the aim is met."""

    measured: str
    holds: bool


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


@cache
def published() -> dict[str, Any]:
    """Inputs that other projects publish results for (`published.json`): by project, as read in its own tests."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name("published.json").read_bytes())
    return data


def percent(share: float) -> str:
    """`4.2%`."""
    return f"{share:.1%}"
