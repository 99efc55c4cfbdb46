"""A benchmark that is ended by a signal leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import ROOT
from tests.support.namespaces import NETNS_FOLDER

pytestmark = pytest.mark.kernel

BENCHMARK = """
import sys
from benchmarks import __main__
from benchmarks.harness import Background, measure, scratch
from tests.support.namespaces import Network

def run(options):
    with Network() as network, scratch() as folder:
        beside = Background(["sleep", "300"], lambda running: True)
        try:
            print(folder, network.namespace("benchmark").path, beside.process.pid, flush=True)
            measure(["sleep", "301"])
        finally:
            beside.stop()

class Module:
    run = staticmethod(run)

__main__.discover = lambda: {"one": Module, "two": Module}
sys.argv = ["benchmarks"]
sys.exit(__main__.main())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_namespaces_folders_and_programs_are_gone(number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", BENCHMARK], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        folder, namespace, beside = process.stdout.readline().split()
        assert Path(folder).exists() and Path(namespace).parent == NETNS_FOLDER and Path(namespace).exists()
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert process.stdout.read() == ""  # the second benchmark has not begun
    assert not Path(folder).exists() and not Path(namespace).exists() and not Path("/proc", beside).exists()
