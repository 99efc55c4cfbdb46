"""The wheel and the source distribution, built and used outside the checkout, as a user gets them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_traces" / "web-day"


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "NETREC_"))}
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=cwd, env=environment, timeout=150
    )


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    built = call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a virtual environment that has netrec from the wheel.

    The dependencies are those of the test's own environment, by a path file: path files in there, and with them the
    editable installation of the checkout, are not followed.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    assert call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent).returncode == 0
    (wheel,) = distributions.glob("*.whl")
    put = call(
        *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--no-deps", "--quiet", wheel),
        cwd=folder.parent,
    )
    assert put.returncode == 0, put.stderr
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def test_every_query_and_program_travels(distributions: Path) -> None:
    (wheel,), (source,) = distributions.glob("*.whl"), distributions.glob("*.tar.gz")
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("netrec", "recorder", "analyze", "queries")
        for path in (ROOT / package).rglob("*")
        if path.suffix in {".py", ".sql", ".c", ".h", ".typed"} and "__pycache__" not in path.parts
    }
    assert any(name.endswith(".sql") for name in wanted)
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    assert wanted <= in_wheel, sorted(wanted - in_wheel)
    with tarfile.open(source) as archive:
        in_source = {name.partition("/")[2] for name in archive.getnames()}
    assert wanted <= in_source, sorted(wanted - in_source)
    assert not [name for name in in_wheel if name.startswith(("tests", "benchmarks", "sample_traces", "scripts"))]


def test_it_is_the_installed_one(installed: Path, tmp_path: Path) -> None:
    where = call(
        installed / "python", "-c", "import netrec, queries; print(netrec.__file__, queries.__file__)", cwd=tmp_path
    )
    assert str(ROOT) not in where.stdout and where.stdout.count(str(installed.parent)) == 2, where


def test_the_two_ways_to_call_it_are_one(installed: Path, tmp_path: Path) -> None:
    command = call(installed / "netrec", "--help", cwd=tmp_path)
    module = call(installed / "python", "-m", "netrec", "--help", cwd=tmp_path)
    assert (command.returncode, command.stderr) == (0, "")
    assert command.stdout == module.stdout and "record" in command.stdout


def test_it_answers_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    answer = call(installed / "netrec", "analyze", "top-talkers", SAMPLE, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "10.20.3.1 -> 10.20.3.2" in answer.stdout


def test_every_source_is_found(installed: Path, tmp_path: Path) -> None:
    found = call(installed / "netrec", "doctor", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert {"ebpf", "synthetic", "tproxy"} <= {line.split()[0] for line in found.stdout.splitlines()}
