"""The Debian package really builds, and what is in it runs where it will be; the units are what systemd takes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.packaging.conftest import PACKAGING, run
from tests.support.namespaces import ROOT

UNITS = PACKAGING / "systemd"


def in_place(tree: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script where /opt/netrec is the package's, in a mount namespace that goes with it."""
    opt = shlex.quote(str(tree / "opt/netrec"))
    mounts = f"mount -t tmpfs none /opt && mkdir /opt/netrec && mount --bind {opt} /opt/netrec"
    dependencies = sysconfig.get_paths()["purelib"]
    return run(
        "unshare", "--mount", "--propagation", "private", "sh", "-c", f"{mounts} && {script}",
        cwd=tree, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": dependencies, **environment},
    )  # fmt: skip


def test_what_is_in_the_package(package: Path, tree: Path) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    for field, value in (("Package", "netrec"), ("Version", version[1])):
        assert run("dpkg-deb", "--field", package, field).stdout.strip() == value
    for path in (
        "etc/netrec/config.toml",
        "usr/lib/systemd/system/netrec.service",
        "usr/lib/systemd/system/netrec-verify.timer",
        "usr/share/doc/netrec/copyright",
        "opt/netrec/bin/netrec",
    ):
        assert (tree / path).is_file(), path
    site = tree / f"opt/netrec/lib/python3.{sys.version_info[1]}/site-packages"
    assert list((site / "queries").rglob("*.sql"))
    assert list((site / "recorder").rglob("*.c"))
    assert list((site / "recorder" / "programs").glob("*.bpf.c"))
    assert (site / "recorder" / "sources" / "program" / "netrec.h").is_file()
    # No path of the machine that built it.
    for path in (tree / "opt/netrec").glob("bin/*"):
        if path.is_file() and not path.is_symlink():
            assert str(ROOT) not in path.read_text()
    assert str(ROOT) not in (tree / "opt/netrec/pyvenv.cfg").read_text()
    owners = run("dpkg-deb", "--contents", package).stdout.splitlines()
    assert all(" root/root " in line for line in owners)


@pytest.mark.kernel
def test_the_package_runs_in_its_place(tree: Path) -> None:
    netrec = "/opt/netrec/bin/netrec"
    record = f"{netrec} record --config etc/netrec/config.toml --source synthetic,host --duration 1s -o trace --quiet"
    done = in_place(tree, f"{netrec} --version && {record} && {netrec} inspect trace")
    assert "netrec, version" in done.stdout and "synthetic,host" in done.stdout
    configured = in_place(tree, "/opt/netrec/bin/netrec record --config etc/netrec/config.toml --config-dump").stdout
    assert re.search(r'keep-size = "20GB" +# etc/netrec/config.toml', configured)


@pytest.mark.kernel
def test_systemd_takes_the_units(tree: Path) -> None:
    done = in_place(tree, f"systemd-analyze verify --man=no {shlex.quote(str(UNITS))}/*")
    assert "netrec" not in done.stderr, done.stderr


@pytest.mark.parametrize(("unit", "most"), [("netrec.service", 2.9), ("netrec-verify.service", 0.8)])
def test_the_units_are_no_more_exposed_than_documented(unit: str, most: float) -> None:
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / unit)
    level = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert level and float(level[1]) <= most, done.stdout


@pytest.mark.kernel
def test_the_capabilities_of_the_service_suffice(tmp_path: Path) -> None:
    """What the unit leaves to root is all that these sources need, here without systemd."""
    names = re.search(r"^CapabilityBoundingSet=(.+)$", (UNITS / "netrec.service").read_text(), re.MULTILINE)
    assert names
    kept = ",".join(f"+{name.lower().removeprefix('cap_')}" for name in names[1].split())
    limits = [f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs"]
    record = [sys.executable, "-m", "netrec", "record", "--source", "ebpf,host", "--host-netns", "all"]
    run("setpriv", *limits, *record, "--duration", "2s", "-o", tmp_path / "trace", "--quiet", cwd=ROOT)
    assert list((tmp_path / "trace" / "health").rglob("*.parquet"))
    assert list((tmp_path / "trace" / "host").rglob("*.parquet"))


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm", "build"])
def test_the_scripts_parse(script: str) -> None:
    shell = "bash" if script == "build" else "sh"
    run(shell, "-n", PACKAGING / "debian" / script)
