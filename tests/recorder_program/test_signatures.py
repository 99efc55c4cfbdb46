"""Signed programs, with the real ssh-keygen: whose signature counts, and what is said when none does."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from netrec.errors import ProgramError, UsageError
from recorder import settings
from recorder.sources.program import SOURCE, signatures
from recorder.sources.program.program_file import load


def ssh_keygen(*arguments: str | Path) -> None:
    subprocess.run(["ssh-keygen", *map(str, arguments)], check=True, capture_output=True, timeout=60)


class Desk:
    """A folder with a program, keys and a list of signers, in which `ann` is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = folder / "p.bpf.c"
        self.program.write_text("// Not looked into here.\n")
        for name in ("ann", "bob"):
            ssh_keygen("-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
        self.signers = folder / "allowed_signers"
        self.signers.write_text(f"ann@example.org {(folder / 'ann.pub').read_text()}")

    def sign(self, key: str, namespace: str = "netrec") -> None:
        (self.folder / "p.bpf.c.sig").unlink(missing_ok=True)
        ssh_keygen("-Y", "sign", "-q", "-n", namespace, "-f", self.folder / key, self.program)

    def require(self) -> str:
        return signatures.require(load(str(self.program)), str(self.signers))

    def refused(self) -> ProgramError:
        with pytest.raises(ProgramError) as caught:
            self.require()
        return caught.value


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_signature_of_a_listed_key(desk: Desk) -> None:
    desk.sign("ann")
    assert desk.require() == "ann@example.org"
    assert signatures.state(load(str(desk.program)), str(desk.signers)) == "signed by ann@example.org"
    assert signatures.state(load(str(desk.program)), "") == "signed"


def test_no_signature(desk: Desk) -> None:
    error = desk.refused()
    assert "is not signed" in error.message and f"ssh-keygen -Y sign -n netrec -f KEY {desk.program}" in error.hint
    assert signatures.state(load(str(desk.program)), str(desk.signers)) == "not signed"


def test_another_key(desk: Desk) -> None:
    desk.sign("bob")
    assert f"signed by a key that is not in {desk.signers}" in desk.refused().message


def test_a_program_that_was_changed_after_it_was_signed(desk: Desk) -> None:
    desk.sign("ann")
    desk.program.write_text("// Looked into.\n")
    assert "is not what ann@example.org signed: it was changed after that" in desk.refused().message


def test_a_signature_for_another_purpose(desk: Desk) -> None:
    desk.sign("ann", namespace="file")
    assert "for another purpose" in desk.refused().message


def test_what_was_read_is_what_was_checked(desk: Desk) -> None:
    desk.sign("ann")
    program = load(str(desk.program))
    desk.program.write_text("// Exchanged in between.\n")
    assert signatures.require(program, str(desk.signers)) == "ann@example.org"
    assert program.source.text == "// Not looked into here.\n"


def test_a_file_that_is_no_signature(desk: Desk) -> None:
    (desk.folder / "p.bpf.c.sig").write_text("ann was here")
    assert "is not a signature" in desk.refused().message


def test_without_ssh_keygen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.sign("ann")
    monkeypatch.setenv("PATH", str(desk.folder))
    error = desk.refused()
    assert "ssh-keygen is missing" in error.message and error.hint == "apt-get install openssh-client"


def test_a_list_of_signers_that_anybody_may_write(desk: Desk) -> None:
    desk.sign("ann")
    desk.signers.chmod(0o666)
    assert "can write to the list" in desk.refused().message
    desk.signers.unlink()
    assert "cannot be read" in desk.refused().message


def resolve(given: dict[str, str], environment: dict[str, str], config: Path | None = None) -> settings.Resolved:
    found = settings.resolve([*settings.COMMON, *SOURCE.settings], given, config, environment)
    return found["program_signers"]


def test_what_the_host_says_about_signers_cannot_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, other = tmp_path / "system.toml", tmp_path / "other.toml"
    monkeypatch.setattr(settings, "SYSTEM_FILE", system)
    other.write_text('[record]\nprogram-signers = "/mine"\n')
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    (tmp_path / "netrec").mkdir()
    assert resolve({}, {}, other).value == "/mine"  # nothing is said: anybody may ask for it
    system.write_text('[record]\nprogram-signers = "/theirs"\n')
    assert resolve({}, {}).value == resolve({}, {}, system).value == "/theirs"
    (tmp_path / "netrec" / "config.toml").write_text('[record]\nprogram-signers = ""\n')
    for given, environment, config, where in (
        ({"program_signers": "/mine"}, {}, None, "--program-signers"),
        ({}, {"NETREC_PROGRAM_SIGNERS": ""}, None, "NETREC_PROGRAM_SIGNERS"),
        ({}, {}, other, str(other)),
        ({}, home, None, "netrec/config.toml"),
    ):
        with pytest.raises(UsageError, match="nothing else may") as caught:
            resolve(given, environment, config)
        assert where in caught.value.message
