"""Settings: which place wins, and what is refused in which words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netrec.errors import UsageError
from recorder import settings
from recorder.source import discover

EVERY = [*settings.COMMON, *discover()["synthetic"].settings]


@pytest.fixture(autouse=True)
def no_system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "SYSTEM_FILE", tmp_path / "etc.toml")


def config(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[record]\n{text}\n")
    return path


def test_every_place_yields_to_the_one_before_it(tmp_path: Path) -> None:
    home, given = tmp_path / "xdg", tmp_path / "given.toml"
    environment = {"XDG_CONFIG_HOME": str(home), "NETREC_DURATION": "1s"}
    config(tmp_path / "etc.toml", 'duration = "4s"')
    config(home / "netrec" / "config.toml", 'duration = "3s"')
    config(given, "duration = 2")

    def now(typed: dict[str, str], path: Path | None) -> tuple[float, str]:
        one = settings.resolve(EVERY, typed, path, environment)["duration"]
        return one.value, one.origin

    assert now({"duration": "500ms"}, given) == (0.5, "command line")
    assert now({}, given) == (1.0, "environment")
    del environment["NETREC_DURATION"]
    assert now({}, given) == (2.0, str(given))
    assert now({}, None) == (3.0, str(home / "netrec" / "config.toml"))
    (home / "netrec" / "config.toml").unlink()
    assert now({}, None) == (4.0, str(tmp_path / "etc.toml"))
    (tmp_path / "etc.toml").unlink()
    assert now({}, None) == (None, "default")


def test_sources_come_as_list_or_with_commas(tmp_path: Path) -> None:
    path = config(tmp_path / "c.toml", 'source = ["a", "b"]')
    assert settings.resolve(EVERY, {}, path, {})["source"].value == ("a", "b")
    assert settings.resolve(EVERY, {"source": ("a,b", "c")}, None, {})["source"].value == ("a", "b", "c")


def test_a_dump_read_again_says_the_same(tmp_path: Path) -> None:
    first = settings.resolve(EVERY, {"min_free": "5%", "quiet": True, "keep_size": "2GB"}, None, {})
    path = tmp_path / "dump.toml"
    path.write_text(settings.dump(first, EVERY))
    second = settings.resolve(EVERY, {}, path, {})
    assert {name: one.value for name, one in second.items()} == {name: one.value for name, one in first.items()}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("rotate-intervall = 3", "unknown key 'rotate-intervall' in .*did you mean 'rotate-interval'"),
        ("duration = 'soon'", "duration in .*: 'soon' is not a duration"),
        ("quiet = 'perhaps'", "neither true nor false"),
        ("duration = [1]", "not a text or number"),
        ("duration = ", "is not a TOML file"),
        ("[recrod]", "unknown key 'recrod'"),
    ],
)
def test_a_file_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settings.resolve(EVERY, {}, config(tmp_path / "c.toml", text), {})


def test_a_slip_in_a_variable_is_refused_and_strangers_are_not() -> None:
    with pytest.raises(UsageError, match="did you mean NETREC_KEEP_AGE"):
        settings.resolve(EVERY, {}, None, {"NETREC_KEEP_AGES": "1d"})
    settings.resolve(EVERY, {}, None, {"NETREC_DEBUG": "1"})


def netrec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "netrec", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


BAD = [
    (["--source", "epbf"], "unknown source 'epbf'"),
    (["--duration", "0"], "--duration: '0' is not a positive duration"),
    (["--duration", "-5s"], "--duration: '-5s' is not a duration"),
    (["--duration", "soon"], "--duration: 'soon' is not a duration"),
    (["--rotate-interval", "2h"], "longer than an hour"),
    (["--rotate-size", "0"], "--rotate-size: '0' is not a positive size"),
    (["--keep-size", "much"], "--keep-size: 'much' is not a size"),
    (["--keep-age", "0s"], "--keep-age: '0s' is not a positive duration"),
    (["--min-free", "200%"], "--min-free: '200%' is not between"),
    (["--active-timeout", "1ms"], "--active-timeout: '1ms' is shorter than a second"),
    (["--ring-size", "1"], "--ring-size: '1' is not between"),
    (["--max-flows", "none"], "--max-flows: 'none' is not a whole number"),
    (["--synthetic-rate", "fast"], "--synthetic-rate: 'fast' is not a number"),
    (["--config", "/nowhere.toml"], "--config /nowhere.toml does not exist"),
    (["--no-such-option"], "--no-such-option"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_sentence_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    from netrec.cli import main

    given = arguments if "--source" in arguments else ["--source", "synthetic", *arguments]
    with pytest.raises(SystemExit) as ended:
        main(["record", *given])
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    assert sentence in told.err
    assert told.err.startswith("netrec: ") and told.err.count("\n") == 1


def test_an_output_that_is_a_file_or_below_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for output in (file, file / "below"):
        done = netrec("record", "--source", "synthetic", "-o", str(output))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"output {output} cannot be a folder: {file} is a file" in done.stderr
    assert file.read_text() == "x"


def test_an_output_that_cannot_be_written() -> None:
    done = netrec("record", "--source", "synthetic", "--duration", "1s", "-o", "/proc/trace")
    assert done.returncode == 2
    assert "output /proc/trace cannot be" in done.stderr and done.stderr.count("\n") == 1


def test_an_option_of_a_source_that_does_not_record() -> None:
    done = netrec("record", "--source", "ebpf", "--synthetic-rate", "5")
    assert done.returncode == 2
    assert "add --source synthetic" in done.stderr


def test_help_and_refusals_load_nothing_heavy() -> None:
    code = (
        "import sys, netrec.cli\n"
        "try: netrec.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('pyarrow', 'numpy', 'duckdb', 'polars') if name in sys.modules])"
    )
    for arguments in (["record", "--help"], ["record", "--duration", "0"], ["record", "--config-dump"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines()[-1] == "[]", arguments


def test_doctor_names_every_source() -> None:
    done = netrec("doctor", "--json")
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert [one["source"] for one in said["sources"]] == list(discover())
    lines = netrec("doctor").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [*discover(), "recommended"]
    advice = said["recommendation"]
    assert lines[-1].split("\t")[1].endswith(advice["command"])
    assert f"--source {advice['source']} " in advice["command"]
