"""The page of all commands is what the commands say of themselves."""

from __future__ import annotations

from scripts import reference


def test_the_page_of_commands_is_up_to_date() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make docs`"


def test_it_has_every_command_with_its_options() -> None:
    page = reference.page()
    for command in ("record", "repair", "doctor", "analyze", "sql", "inspect", "verify"):
        assert f"## netrec {command}\n" in page
    assert "--rotate-interval TIME" in page
