"""The commands that the pages show, run: what a page says a command prints is what it prints.

Two kinds of fenced blocks are looked at, in README.md and everything under docs/:

    ```console      `$ netrec ...` and below it exactly what it prints (standard output, then standard error)
    ```sh           commands to copy; they must be accepted, their output is not shown

A command runs from the checkout, in UTC; the folder `trace` is a copy of the sample trace web-day. `netrec record` only
reads its options (`--config-dump`), so that nothing is recorded. Commands other than netrec are left alone. The comment
`<!-- not run: reason -->` on the line before a block leaves the whole block out.

    python -m scripts.examples            rewrite the outputs in the pages
    python -m scripts.examples --check    say which differ, and exit 1
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "sample_traces" / "web-day"
_BLOCK = re.compile(r"(?P<skip><!-- not run: [^\n]*-->\n)?```(?P<kind>console|sh)\n(?P<body>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """One command of a page; `output` is what the page says it prints (None: the page does not say)."""

    page: Path
    line: int
    command: str
    output: str | None


def pages() -> list[Path]:
    """Every page that is written by hand."""
    return [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md"))]


def examples(page: Path) -> Iterator[Example]:
    """The netrec commands of a page, in order. A backslash at the end of a line joins the next one."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        if block["skip"]:
            continue
        line = text.count("\n", 0, block.start("body")) + 1
        found = _console(block["body"]) if block["kind"] == "console" else _shell(block["body"])
        for offset, command, output in found:
            if _words(command)[:1] == ["netrec"]:
                yield Example(page, line + offset, command, output)


def _words(command: str) -> list[str]:
    words = shlex.split(command, comments=True)
    return words[1:] if words[:1] == ["sudo"] else words


def _console(body: str) -> Iterator[tuple[int, str, str]]:
    for match in re.finditer(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", body, re.M):
        yield body.count("\n", 0, match.start()), match["command"], match["output"]


def _shell(body: str) -> Iterator[tuple[int, str, None]]:
    joined = body.replace("\\\n", "\0\0")
    for number, line in enumerate(joined.splitlines()):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.replace("\0\0", " "), None


def run(example: Example) -> tuple[int, str]:
    """Exit code and what it prints. Pipes and redirections of the command work; files it writes are thrown away."""
    command = re.sub(r"\s+# .*$", "", example.command.removeprefix("sudo "))
    if _words(command)[1:2] == ["record"]:
        command += " --config-dump"
    with tempfile.TemporaryDirectory(prefix="netrec-example-") as folder:
        shutil.copytree(SAMPLE, Path(folder, "trace"))  # some examples change it
        Path(folder, "sample_traces").symlink_to(SAMPLE.parent)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NETREC_")}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', '')}",
            "TZ": "UTC",
            "HOME": folder,
            "XDG_CONFIG_HOME": folder,
        }
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            timeout=60,
        )
    printed = (done.stdout + done.stderr).replace(f"{folder}/", "")
    return done.returncode, "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def rewrite(page: Path) -> bool:
    """Put what the commands print into the page; True when that changed it."""
    text = page.read_text()

    def filled(block: re.Match[str]) -> str:
        if block["kind"] != "console" or block["skip"]:
            return block[0]
        parts = []
        for offset, command, output in _console(block["body"]):
            if _words(command)[:1] == ["netrec"]:
                output = run(Example(page, offset, command, output))[1]
            parts.append(f"$ {command}\n{output}")
        return "```console\n" + "".join(parts) + "```"

    new = _BLOCK.sub(filled, text)
    if new != text:
        page.write_text(new)
    return new != text


def main() -> int:
    if sys.argv[1:] != ["--check"]:
        for page in pages():
            if rewrite(page):
                print(f"{page.relative_to(ROOT)}: outputs written", file=sys.stderr)
        return 0
    wrong = 0
    for page in pages():
        for example in examples(page):
            code, printed = run(example)
            if printed != example.output if example.output is not None else code not in (0, 1, 3):
                print(f"{page.relative_to(ROOT)}:{example.line}: {example.command}: exit {code}\n{printed}")
                wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
