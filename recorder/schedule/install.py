"""What starts a schedule's runs: a file of /etc/cron.d, or a systemd timer and its service."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from netrec.errors import UsageError
from recorder.schedule.cron import CronExpression
from recorder.schedule.definition import VARIABLE, Schedule, folder, replace_file

CRON_FOLDER = Path("/etc/cron.d")
SYSTEMD_FOLDER = Path("/etc/systemd/system")


def install(schedule: Schedule) -> list[Path]:
    """Put in place what starts it; returns the files. Raises `UsageError` when that cannot be written."""
    contents = systemd_files(schedule) if schedule.starter == "systemd" else {cron_path(schedule): cron_file(schedule)}
    try:
        for path, content in contents.items():
            replace_file(path, content, 0o644)
    except OSError as problem:
        missing = "cron is not installed" if isinstance(problem, FileNotFoundError) else problem.strerror
        for path in contents:
            path.unlink(missing_ok=True)
        raise UsageError(
            f"{next(iter(contents))} cannot be written ({missing})", "run as root, or use --systemd"
        ) from None
    if schedule.starter == "systemd" and systemd_runs():
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", f"netrec-{schedule.name}.timer")
    return list(contents)


def uninstall(schedule: Schedule) -> list[Path]:
    """Take away what starts it; returns the files that are gone. A run that is going on goes on."""
    if schedule.starter == "systemd":
        if systemd_runs():
            _systemctl("disable", "--now", f"netrec-{schedule.name}.timer")
        paths = list(systemd_files(schedule))
    else:
        paths = [cron_path(schedule)]
    gone = [path for path in paths if path.exists()]
    try:
        for path in gone:
            path.unlink()
    except OSError as problem:
        raise UsageError(f"{gone[0]} cannot be removed ({problem.strerror})", "run as root") from None
    if schedule.starter == "systemd" and systemd_runs():
        _systemctl("daemon-reload")
    return gone


def cron_path(schedule: Schedule) -> Path:
    """Cron reads only names without dots."""
    return CRON_FOLDER / f"netrec-{schedule.name}"


def cron_file(schedule: Schedule) -> str:
    """The text for /etc/cron.d. In a command cron turns % into a new line: it is escaped."""
    lines = [
        f"# netrec schedule {schedule.name}; remove it with: netrec schedule remove {schedule.name}",
        "SHELL=/bin/sh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    if os.environ.get(VARIABLE):
        lines.append(f"{VARIABLE}={folder()}")
    command = shlex.join([*schedule.command, "schedule", "run", schedule.name]).replace("%", "\\%")
    return "\n".join([*lines, f"{schedule.cron} root {command}", ""])


def systemd_files(schedule: Schedule) -> dict[Path, str]:
    """The service and the timer, by path."""
    when = "\n".join(f"OnCalendar={each}" for each in CronExpression.parse(schedule.cron).on_calendar())
    words = [*schedule.command, "schedule", "run", schedule.name]
    command = " ".join(_systemd_word(word) for word in words)
    environment = f"Environment={_systemd_word(f'{VARIABLE}={folder()}')}\n" if os.environ.get(VARIABLE) else ""
    service = f"""\
[Unit]
Description=netrec schedule {schedule.name}
Documentation=man:netrec(1)

[Service]
Type=oneshot
ExecStart={command}
{environment}TimeoutStartSec=infinity
KillSignal=SIGTERM
Nice=5
"""
    timer = f"""\
[Unit]
Description=When netrec schedule {schedule.name} runs

[Timer]
{when}
AccuracySec=1s
Unit=netrec-{schedule.name}.service

[Install]
WantedBy=timers.target
"""
    base = SYSTEMD_FOLDER / f"netrec-{schedule.name}"
    return {base.with_suffix(".service"): service, base.with_suffix(".timer"): timer}


def _systemd_word(word: str) -> str:
    """A word of a command line as systemd.service(5) quotes it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or any(character in word for character in " '\t") else word


def systemd_runs() -> bool:
    """Whether systemd is this host's init (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def cron_runs() -> bool:
    """Whether a cron daemon is running, as far as its pid file tells."""
    for path in (Path("/run/crond.pid"), Path("/var/run/cron.pid")):
        try:
            return Path(f"/proc/{int(path.read_text())}").is_dir()
        except (OSError, ValueError):
            continue
    return False


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise UsageError(f"systemctl {' '.join(arguments)} failed ({done.stderr.strip()})", "look at journalctl -xe")
