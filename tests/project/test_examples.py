"""The pages are true: every netrec command that they show is accepted, and prints what they say it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import examples

ALL = [example for page in examples.pages() for example in examples.examples(page)]


@pytest.mark.parametrize("example", ALL, ids=lambda one: f"{one.page.name}:{one.line}")
def test_the_pages_are_true(example: examples.Example) -> None:
    code, printed = examples.run(example)
    if example.output is None:
        # 1 is a finding and 3 "inconclusive": answers, both of them.
        assert code in (0, 1, 3), printed
    else:  # a page may show an error
        assert printed == example.output, "run `make docs` if the new output is right"


def test_the_readme_has_examples() -> None:
    shown = [example for example in ALL if example.page.name == "README.md"]
    assert any(example.output for example in shown)
    assert any("record" in example.command for example in shown)


def test_a_false_page_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ netrec --version\nnetrec, version 0.0.0\n```\n\n"
        "<!-- not run: why -->\n```sh\nnetrec nonsense\n```\n"
        "```sh\nsudo netrec record --duration nonsense\nls\n```\n"
    )
    version, record = examples.examples(page)
    assert (version.line, version.output) == (2, "netrec, version 0.0.0\n")
    assert examples.run(version)[1] != version.output
    code, printed = examples.run(record)
    assert code == 2 and "nonsense" in printed
    assert examples.rewrite(page) and "version 0.0.0" not in page.read_text()
