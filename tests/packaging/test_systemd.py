"""The package's units under the real systemd, hardened as they are, and a schedule of it at a real minute."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.dataset
import pytest

from tests.support import traffic
from tests.support.namespaces import Network, wait_until
from tests.support.systemd import Systemd

pytestmark = pytest.mark.kernel

CAP_PERFMON = 38
TRACE = "/var/lib/netrec/trace"
SCHEDULES = "/var/lib/netrec/schedules"
# Where Python itself lies in a home, as it may here, the service must see that; it is the only difference.
SETTINGS = {"netrec.service": "ProtectHome=read-only", "netrec-verify.service": "ProtectHome=read-only"}


@pytest.mark.timeout(600)
def test_the_service_records_and_a_timer_starts_a_schedule(tree: Path, network: Network) -> None:
    netrec = "/opt/netrec/bin/netrec"
    with Systemd(tree, SETTINGS) as systemd:
        record = ["record", "--source", "synthetic", "--duration", "1s", "-o", "/var/lib/scheduled"]
        systemd.run(netrec, "schedule", "add", "minutely", "--cron", "* * * * *", "--systemd", "--", *record)
        assert systemd.run("systemctl", "is-active", "netrec-minutely.timer").stdout.strip() == "active"

        _the_service_records(systemd, network)

        runs = systemd.path(f"{SCHEDULES}/minutely/runs.ndjson")
        wait_until(runs.exists, "a run by the timer", timeout=150)
        entry = json.loads(runs.read_text().splitlines()[0])
        log = systemd.path(f"{SCHEDULES}/minutely/log").read_text()
        assert (entry["result"], entry["exit_code"]) == ("done", 0), log
        assert entry["due"].endswith(":00")
        assert "minutely" in systemd.run(netrec, "schedule", "list").stdout
        systemd.run(netrec, "schedule", "remove", "minutely")
        assert systemd.run("systemctl", "is-active", "netrec-minutely.timer", check=False).stdout.strip() == "inactive"
        assert not list(systemd.path("/etc/systemd/system").glob("netrec-minutely*"))


def _records(systemd: Systemd) -> bool:
    """A recorder gives up what it needed only to begin."""
    process = systemd.property("netrec.service", "MainPID")
    status = systemd.path(f"/proc/{process}/status").read_text()
    capabilities = re.search(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)
    return bool(capabilities) and not int(capabilities[1], 16) & 1 << CAP_PERFMON


def _the_service_records(systemd: Systemd, network: Network) -> None:
    space = network.namespace()
    systemd.run("systemctl", "start", "netrec.service")
    trace = systemd.path(TRACE)
    wait_until(lambda: _records(systemd), "a recorder of which every source records", timeout=120)
    with space.entered(), traffic.Server("127.0.0.1") as server:
        traffic.exchange("127.0.0.1", server.port, [(1000, 1000)] * 23)

    def recorded() -> list[dict[str, object]]:
        systemd.run("systemctl", "reload", "netrec.service")  # the last connection may end later than its client
        files = sorted(map(str, (trace / "flows").rglob("*.parquet")))
        if not files:
            return []
        table = pyarrow.dataset.dataset(files).to_table()
        mine = [row for row in table.to_pylist() if row["netns"] == space.inode]
        return [row for row in mine if row["role"] == "client"]

    wait_until(lambda: len(recorded()) >= 23, "the rows of 23 connections", timeout=120, pause=1)
    assert [(row["client_bytes"], row["server_bytes"]) for row in recorded()] == [(1000, 1000)] * 23
    systemd.run("systemctl", "stop", "netrec.service")
    assert systemd.property("netrec.service", "Result") == "success"
    assert systemd.property("netrec.service", "ExecMainStatus") == "0"
    assert list((trace / "host").rglob("*.parquet"))
    systemd.run("systemctl", "start", "netrec-verify.service")
    assert systemd.property("netrec-verify.service", "Result") == "success"
