"""What every test can use: see tests/support for the parts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.namespaces import Link, Network
from tests.support.recorder import Recorders

ROOT = Path(__file__).resolve().parent.parent

# How long one example takes says something about the machine, nothing about the code; the same examples every time: a
# gate that fails by chance is no gate.
hypothesis.settings.register_profile("netrec", deadline=None, derandomize=True)
hypothesis.settings.load_profile("netrec")


def why_not_kernel() -> str:
    """Why the kernel tests cannot run here; empty when they can. As root on a kernel with BTF they must."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "needs a kernel with BTF (/sys/kernel/btf/vmlinux)"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_not_kernel()
    for item in items:
        if item.get_closest_marker("kernel"):
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))
            # Under xdist all of them go to one worker: they share one kernel.
            item.add_marker(pytest.mark.xdist_group("kernel"))


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled eBPF programs are kept for these tests: never what the host has kept."""
    folder = tmp_path_factory.mktemp("compiled", numbered=True)
    before = os.environ.get("CACHE_DIRECTORY")
    os.environ["CACHE_DIRECTORY"] = str(folder)
    yield folder
    os.environ.pop("CACHE_DIRECTORY")
    if before is not None:
        os.environ["CACHE_DIRECTORY"] = before


@pytest.fixture
def network() -> Iterator[Network]:
    """Network namespaces that are gone after the test (for tests marked `kernel`)."""
    with Network() as made:
        yield made


@pytest.fixture
def link(network: Network) -> Link:
    """Two namespaces, `link.first.namespace` and `link.second.namespace`, joined by a veth pair."""
    return network.link(network.namespace("client"), network.namespace("server"))


@pytest.fixture
def recorders() -> Iterator[Recorders]:
    """Starts `netrec record`; what still runs after the test is ended."""
    made = Recorders()
    try:
        yield made
    finally:
        made.end()
