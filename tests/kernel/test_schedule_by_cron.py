"""A schedule started by Debian's own cron daemon, at a real minute.

Cron runs in a mount namespace of its own, in which /etc/cron.d, the users' crontabs and /run are empty: it starts
nothing but the schedule, and nothing of it is left on this host.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyarrow.dataset
import pytest

from tests.support.namespaces import ROOT, end_process, wait_until

pytestmark = pytest.mark.kernel

EMPTY = ("/etc/cron.d", "/var/spool/cron", "/run")


def noted(runs: Path) -> bool:
    """Whether a run has been noted, the line and its end."""
    return runs.exists() and runs.read_text().endswith("\n")


def test_cron_starts_the_recording(tmp_path: Path) -> None:
    netrec = f"{shlex.quote(sys.executable)} -m netrec"
    script = [
        "set -e",
        *(f"mount -t tmpfs none {folder}" for folder in EMPTY),
        "mount --bind /dev/null /etc/crontab",
        f"{netrec} schedule add minutely --cron '* * * * *' -- record --source synthetic --duration 2s -o trace",
        "exec cron -f",
    ]
    environment = {**os.environ, "NETREC_SCHEDULE_FOLDER": str(tmp_path / "schedules"), "PYTHONPATH": str(ROOT)}
    before = sorted(Path("/etc/cron.d").iterdir())
    cron = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    runs = tmp_path / "schedules" / "minutely" / "runs.ndjson"
    try:
        wait_until(lambda: noted(runs) or cron.poll() is not None, "a run by cron", timeout=150)
        assert cron.poll() is None, cron.stdout.read() if cron.stdout else ""
    finally:
        end_process(cron)
    assert sorted(Path("/etc/cron.d").iterdir()) == before
    entry = json.loads(runs.read_text().splitlines()[0])
    log = (tmp_path / "schedules" / "minutely" / "log").read_text()
    assert (entry["result"], entry["exit_code"]) == ("done", 0), log
    due = datetime.fromisoformat(entry["due"])
    started = datetime.fromisoformat(entry["started"]).replace(tzinfo=None)
    assert due.second == 0 and 0 <= (started - due).total_seconds() < 30
    flows = pyarrow.dataset.dataset(sorted(map(str, (tmp_path / "trace" / "flows").rglob("*.parquet"))))
    assert flows.count_rows() > 0
