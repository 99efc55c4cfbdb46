"""Schedules: what is refused when they are added, runs that never overlap, and what is noted of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netrec.errors import UsageError
from recorder.commands.schedule import command
from recorder.schedule import definition, install, run
from recorder.schedule.definition import Schedule
from recorder.schedule.history import KEPT, History, Run

Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The schedule command, with folders of the test's own."""
    monkeypatch.setenv(definition.VARIABLE, str(tmp_path / "schedules"))
    for name in ("CRON_FOLDER", "SYSTEMD_FOLDER"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(install, name, tmp_path / name)
    monkeypatch.setattr(install, "systemd_runs", lambda: False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(command, list(arguments), standalone_mode=False)

    return call


HOURLY = ("hourly", "--cron", "0 * * * *")
RECORD = ("--", "record", "--source", "synthetic", "--duration", "1s", "-o", "trace")


def test_add_list_remove(cli: Cli, tmp_path: Path) -> None:
    result = cli("add", *HOURLY, *RECORD)
    assert result.exception is None
    cron = (tmp_path / "CRON_FOLDER" / "netrec-hourly").read_text()
    line = cron.splitlines()[-1]
    assert line.startswith("0 * * * * root ") and line.endswith("schedule run hourly")
    assert f"{definition.VARIABLE}={tmp_path / 'schedules'}" in cron
    kept = definition.load("hourly")
    assert kept.arguments[-2:] == ["--keep-age", "14d"]
    assert kept.directory == str(tmp_path)
    listed = cli("list").output
    assert "hourly  0 * * * *  (cron)" in listed and "not run yet" in listed and ":00\n" in listed
    assert json.loads(cli("list", "--json").output)["cron"] == "0 * * * *"
    assert "removed" in cli("remove", "hourly").output
    assert not list((tmp_path / "CRON_FOLDER").iterdir())
    assert definition.names() == []


def test_systemd_files_are_what_systemd_takes(cli: Cli, tmp_path: Path) -> None:
    assert cli("add", "odd", "--cron", "*/5 1 13 * 5", "--systemd", *RECORD).exception is None
    folder = tmp_path / "SYSTEMD_FOLDER"
    timer = (folder / "netrec-odd.timer").read_text()
    assert timer.count("OnCalendar=") == 2  # the 13th, or a Friday
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, folder.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, "netrec-odd" in done.stderr) == (0, False), done.stderr
    cli("remove", "odd")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "--cron", "61 * * * *", *RECORD), "'61' is no minute"),
        (("../x", "--cron", "0 * * * *", *RECORD), "cannot name a schedule"),
        (("a.b", "--cron", "0 * * * *", *RECORD), "cannot name a schedule"),
        (("x", "--cron", "0 * * * *"), "what to run is missing"),
        (("x", "--cron", "0 * * * *", "--", "analyze", "top"), "what to run is missing"),
        (("x", "--cron", "0 * * * *", "--", "record"), "needs an end"),
        (("x", "--cron", "0 * * * *", "--", "record", "--duration", "1x"), "not a duration"),
        (("x", "--cron", "0 * * * *", *RECORD, "--no-such-option"), "No such option"),
        (("x", "--cron", "0 * * * *", "--", "record", "--duration", "1s", "--source", "nothing"), "unknown source"),
        (("x", "--cron", "0 * * * *", *RECORD, "--host-interval", "5s"), "not recording"),
        (("x", "--cron", "0 * * * *", "--", "record", "--help"), "nothing to run"),
        (("x", "--cron", "0 * * * *", *RECORD, "--program", "no-such"), "there is no program 'no-such'"),
    ],
)
def test_what_is_wrong_is_refused_when_it_is_added(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = cli("add", *arguments)
    assert message in str(result.exception or "")
    assert not list((tmp_path / "CRON_FOLDER").iterdir())
    assert definition.names() == []


def test_a_program_that_cannot_be_used_is_refused_when_it_is_added(cli: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.bpf.c"
    broken.write_text("struct row { u64 value; };\n")
    result = cli("add", "x", "--cron", "0 * * * *", *RECORD, "--program", str(broken))
    assert "no struct is marked as the table" in str(result.exception)
    assert definition.names() == []
    cli("add", "x", "--cron", "0 * * * *", *RECORD, "--program", "accept_latency")
    assert definition.names() == ["x"]


def test_a_name_is_taken_once(cli: Cli) -> None:
    assert cli("add", *HOURLY, *RECORD).exception is None
    assert "already" in str(cli("add", *HOURLY, *RECORD).exception)
    assert cli("add", "hourly", "--cron", "5 * * * *", "--replace", *RECORD).exception is None
    assert definition.load("hourly").cron == "5 * * * *"
    assert "the schedules are hourly" in str(cli("remove", "daily").exception)


def made(tmp_path: Path, *arguments: str, created: datetime | None = None, program: str = "") -> Schedule:
    schedule = Schedule(
        name="test",
        cron="* * * * *",
        arguments=list(arguments),
        directory=str(tmp_path),
        starter="cron",
        created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
        command=[sys.executable, "-c", program] if program else [sys.executable, "-m", "netrec"],
    )
    schedule.save()
    return schedule


def entries(schedule: Schedule) -> list[Run]:
    return History(schedule.home / "runs.ndjson").entries()


def test_a_run_records_logs_and_is_noted(cli: Cli, tmp_path: Path) -> None:
    arguments = ["--source", "synthetic", "--duration", "1s", "-o", "trace", "--keep-age", "1d"]
    schedule = made(tmp_path, *arguments)
    assert run.run(schedule) == 0
    assert list((tmp_path / "trace" / "flows").rglob("*.parquet"))
    (entry,) = entries(schedule)
    assert entry.result == "done" and entry.exit_code == 0 and entry.seconds >= 1
    log = (schedule.home / "log").read_text()
    assert "started for" in log and "ended with exit code 0" in log
    assert "done, took" in cli("list").output


def test_a_failed_run_says_why(cli: Cli, tmp_path: Path) -> None:
    schedule = made(tmp_path, "--source", "nothing")
    assert run.run(schedule) == 2
    (entry,) = entries(schedule)
    assert entry.result == "failed" and "unknown source" in entry.detail
    assert "failed with exit code 2" in cli("list").output
    gone = replace(schedule, command=["/no/such/program"])
    assert run.run(gone) == 127
    assert "No such file" in entries(schedule)[-1].detail


def test_two_runs_never_overlap(cli: Cli, tmp_path: Path) -> None:
    program = (
        "import pathlib, time\npathlib.Path('started').touch()\n"
        "while not pathlib.Path('end').exists(): time.sleep(0.01)"
    )
    schedule = made(tmp_path, program=program)
    command_line = [sys.executable, "-m", "netrec", "schedule", "run", "test"]
    with subprocess.Popen(command_line) as first:
        try:
            deadline = time.monotonic() + 30
            while not (tmp_path / "started").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            assert run.is_running(schedule)
            assert "running now" in cli("list").output
            assert run.run(schedule) == 0
            assert "goes on to its end" in CliRunner().invoke(command, ["remove", "test"]).output
        finally:
            (tmp_path / "end").touch()
    assert first.returncode == 0
    assert sorted(entry.result for entry in entries(schedule)) == ["done", "skipped"]
    assert not run.is_running(schedule)


def test_a_request_to_stop_reaches_the_recorder(cli: Cli, tmp_path: Path) -> None:
    made(tmp_path, "--source", "synthetic", "--duration", "1h", "-o", "trace")
    command_line = [sys.executable, "-m", "netrec", "schedule", "run", "test"]
    with subprocess.Popen(command_line) as process:
        deadline = time.monotonic() + 30
        while not list((tmp_path / "trace").rglob("*.arrows")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert list((tmp_path / "trace" / "flows").rglob("*.parquet"))  # what it had is written


def test_missed_times_are_noted_once(cli: Cli, tmp_path: Path) -> None:
    now = datetime.now()
    schedule = made(tmp_path, program="", created=datetime.now(UTC) - timedelta(hours=3))
    schedule = replace(schedule, command=[sys.executable, "-c", ""])
    assert run.run(schedule) == 0
    gap, done = entries(schedule)
    assert (gap.result, done.result) == ("missed", "done")
    assert 175 <= gap.count <= 180
    assert abs(datetime.fromisoformat(gap.until) - now) < timedelta(minutes=3)
    assert run.run(schedule) == 0
    assert [entry.result for entry in entries(schedule)] in (
        ["missed", "done", "done"],
        ["missed", "done", "missed", "done"],  # the minute turned between the two
    )
    assert " missed" in cli("list").output


def test_the_log_and_the_history_stay_small(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOG_BYTES", 10_000)
    schedule = made(tmp_path, program="for i in range(5000): print('x' * 50)")
    run.run(schedule)
    assert sum(path.stat().st_size for path in schedule.home.glob("log*")) < 10_000 * (run.LOG_FILES + 2)
    history = History(schedule.home / "runs.ndjson")
    for number in range(KEPT + 10):
        history.add(Run(f"2026-01-01T00:00:{number % 60:02}", "done"))
    (schedule.home / "runs.ndjson").open("a").write('{"cut of')
    history.trim()
    assert len(history.entries()) == KEPT


def test_odd_words_survive_cron_and_systemd(cli: Cli, tmp_path: Path) -> None:
    schedule = replace(made(tmp_path), command=["/opt/my python/100%/$x", 'a"b'])
    line = install.cron_file(schedule).splitlines()[-1]
    assert r"'/opt/my python/100\%/$x' 'a\"b'".replace(r"\"", '"') in line
    service = next(text for path, text in install.systemd_files(schedule).items() if path.suffix == ".service")
    assert r'ExecStart="/opt/my python/100%%/$$x" "a\"b" schedule run test' in service


def test_without_permission_it_says_so(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "CRON_FOLDER", tmp_path / "missing")
    result = cli("add", *HOURLY, *RECORD)
    assert isinstance(result.exception, UsageError) and "cron is not installed" in str(result.exception)
    assert definition.names() == []
