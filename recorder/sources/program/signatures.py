"""OpenSSH signatures of programs: `ssh-keygen -Y sign -n netrec -f KEY my.bpf.c` writes my.bpf.c.sig beside it.

The bytes that were read are what ssh-keygen checks and what is compiled: nothing is read twice.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from netrec.errors import ProgramError
from netrec.text import printable
from recorder.sources.program.program_file import Program

NAMESPACE = "netrec"
SUFFIX = ".sig"
_SIGN = "sign it: ssh-keygen -Y sign -n netrec -f KEY"


def require(program: Program, signers: str) -> str:
    """The name of the listed signer of a program.

    Raises `ProgramError` when nobody signed it, when it was changed after that, when the key is not in the file
    `signers`, when that file cannot be trusted, and when ssh-keygen is missing.
    """
    _check_file(Path(signers))
    path = program.path.with_name(program.path.name + SUFFIX)
    if not path.is_file():
        raise ProgramError(
            f"the program {program.path} is not signed, and this host loads only signed ones",
            f"{_SIGN} {program.path}",
        )
    found = _run("find-principals", signers, path, b"")
    names = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not names:
        if b"invalid format" in found.stderr or b"parse" in found.stderr or b"armor" in found.stderr:
            raise ProgramError(f"{path} is not a signature", f"{_SIGN} {program.path}")
        raise ProgramError(
            f"the program {program.path} is signed by a key that is not in {signers}",
            "have it signed by one that is, or add the key there",
        )
    for name in names:
        if _run("verify", signers, path, program.data, "-I", name).returncode == 0:
            return name
    raise ProgramError(
        f"the program {program.path} is not what {names[0]} signed: it was changed after that, or signed for another "
        f"purpose than {NAMESPACE}, or the key was not valid then",
        f"look at the change, then {_SIGN} {program.path}",
    )


def state(program: Program, signers: str) -> str:
    """In words: `signed by NAME`, `signed` (no list of signers to ask), `not signed`, or what is wrong."""
    if not program.path.with_name(program.path.name + SUFFIX).is_file():
        return "not signed"
    if not signers:
        return "signed"
    try:
        return f"signed by {printable(require(program, signers))}"
    except ProgramError as problem:
        return printable(problem.message)


def _run(what: str, signers: str, signature: Path, data: bytes, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", what, "-f", signers, "-s", str(signature), *more]
    if what == "verify":
        command += ["-n", NAMESPACE]
    try:
        return subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        raise ProgramError(
            "whether programs are signed cannot be checked: ssh-keygen is missing", "apt-get install openssh-client"
        ) from None
    except subprocess.TimeoutExpired:
        raise ProgramError("ssh-keygen did not answer", f"try it: {' '.join(command)}") from None


def _check_file(signers: Path) -> None:
    """Whoever can write to the list of signers can let anything be loaded."""
    try:
        found = signers.stat()
        signers.open("rb").close()
    except OSError as problem:
        raise ProgramError(
            f"the list of programs' signers {signers} cannot be read ({problem.strerror})",
            "put the keys there: NAME KEY-TYPE KEY, one a line",
        ) from None
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ProgramError(
            f"others than its owner can write to the list of programs' signers {signers}",
            f"chown root {signers}; chmod 644 {signers}",
        )
