"""Finding a program by its path or name, and reading it: once, so that what was checked is what is compiled.

Names are looked for in the user's folder (~/.config/netrec/programs), then in /etc/netrec/programs, then among those
that come with netrec (recorder/programs).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import recorder
from netrec.errors import ProgramError
from netrec.trace.definition import Origin, describe
from recorder.bpf.compiler import Request
from recorder.sources.program import translation
from recorder.sources.program.annotation import Annotation, read
from recorder.sources.program.hooks import Attachment, attachments
from recorder.sources.program.source_text import SourceText

SUFFIX = ".bpf.c"
BUILT_IN = Path(recorder.__file__).parent / "programs"
SYSTEM = Path("/etc/netrec/programs")
_LARGEST = 1 << 20
_PAGE = 4096


@dataclass(frozen=True)
class Program:
    """A program's file as it was read: `data` are its bytes."""

    path: Path
    data: bytes

    @property
    def name(self) -> str:
        """Its name without folder and suffix."""
        return self.path.name.removesuffix(SUFFIX)

    @cached_property
    def source(self) -> SourceText:
        """Its text; raises `ProgramError` when it is none."""
        try:
            return SourceText(self.path.name, self.data.decode())
        except UnicodeDecodeError:
            raise ProgramError(f"{self.path} is not text in UTF-8", "name a file of C") from None

    @cached_property
    def annotation(self) -> Annotation:
        """What it says about itself; raises `ProgramError`."""
        return read(self.source)

    @cached_property
    def attachments(self) -> tuple[Attachment, ...]:
        """Its hooks; raises `ProgramError`."""
        return attachments(self.source, self.annotation)

    @property
    def definition(self) -> dict[str, Any]:
        """Its table, as every file of the trace carries it."""
        origin = Origin(self.path.name, self.annotation.description, hashlib.sha256(self.data).hexdigest())
        return describe(self.annotation.table, origin)

    def request(self, ring_bytes: int) -> Request:
        """What the compiler is asked for; raises `ProgramError`."""
        text = translation.translate(self.source, self.annotation, self.attachments)
        return Request(
            text,
            {"RING_PAGES": ring_pages(ring_bytes)},
            {one.program: one.kind for one in self.attachments},
            [translation.RING, translation.COUNTS],
            self.annotation.enumerations,
            kernel_types=True,
        )


def ring_pages(size: int) -> int:
    """Pages of a ring of at least `size` bytes: a power of two."""
    return max(1, 1 << (int(size) - 1).bit_length() >> 12)


def folders() -> list[Path]:
    """The folders that programs are looked for in, in the order of precedence."""
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return [Path(home, "netrec", "programs"), SYSTEM, BUILT_IN]


def available() -> Iterator[Path]:
    """Every program in the folders; one that another of its name hides is left out."""
    seen = set()
    for folder in folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []:
            if path.name not in seen:
                seen.add(path.name)
                yield path


def find(given: str) -> Path:
    """The file that a path or name means; raises `ProgramError` when there is none."""
    path = Path(given)
    if path.exists() or "/" in given:
        return path
    name = given.removesuffix(SUFFIX)
    for candidate in available():
        if candidate.name == f"{name}{SUFFIX}":
            return candidate
    known = ", ".join(path.name.removesuffix(SUFFIX) for path in available())
    raise ProgramError(f"there is no program {given!r}", f"name a file of C, or one of {known}")


def load(given: str) -> Program:
    """Read a program by path or name; raises `ProgramError` when it cannot be read."""
    path = find(given)
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as problem:
        reason = problem.strerror
        raise ProgramError(f"the program {path} cannot be read ({reason})", "check its path and permissions") from None
    if len(data) > _LARGEST:
        raise ProgramError(f"the program {path} is larger than a megabyte", "name a file of C")
    return Program(path, data)
