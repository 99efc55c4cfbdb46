"""The sample traces hold what the workload itself counted, to the byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
WEB_DAY = SAMPLES / "web-day"
KNOWN: dict[str, Any] = json.loads((WEB_DAY / "known.json").read_text())
FLOWS = f"read_parquet('{WEB_DAY}/flows/**/*.parquet')"


def one(query: str) -> tuple[Any, ...]:
    row = duckdb.connect().execute(query).fetchone()
    assert row is not None
    return row


@pytest.mark.parametrize("side", ["not duplicate", "duplicate"])
def test_both_ends_saw_every_byte_of_the_users(side: str) -> None:
    users = KNOWN["users"]
    assert one(
        f"""select count(distinct flow_id), sum(client_bytes), sum(server_bytes) from {FLOWS}
        where (client_address like '10.20.1.%' or client_address like 'fd20:1::%') and server_port = 80 and {side}"""
    ) == (users["connections"], users["client_bytes"], users["server_bytes"])


def test_the_top_user() -> None:
    users = KNOWN["users"]
    assert one(
        f"""select client_address, sum(client_bytes + server_bytes) as bytes from {FLOWS}
        where client_address like '10.20.1.%' and not duplicate group by all order by bytes desc limit 1"""
    ) == (users["top_user"], users["top_user_bytes"])


def test_the_bulk_copy_is_one_flow_of_several_intervals() -> None:
    flows, rows, client_bytes, server_bytes, name = one(
        f"""select count(distinct flow_id), count(*), sum(client_bytes), sum(server_bytes), max(process_name)
        from {FLOWS} where client_address = '10.20.3.1' and not duplicate"""
    )
    assert (flows, client_bytes, server_bytes) == (1, KNOWN["backup"]["client_bytes"], KNOWN["backup"]["server_bytes"])
    assert rows >= 3 and name == "curl"


def test_the_outage() -> None:
    users = KNOWN["users"]
    assert one(
        f"""select count(*) filter (tcp_close = 'connect_failed'), count(*) filter (tcp_close = 'fin'),
        sum(client_bytes + server_bytes) filter (tcp_close = 'connect_failed'), list(distinct process_name)
        from {FLOWS} where server_port = 8000 and not duplicate"""
    ) == (users["application_refused"], users["application_requests"], 0, ["nginx"])


def test_nothing_else_and_no_loss() -> None:
    (foreign,) = one(
        f"""select count(*) from {FLOWS} where not (client_address like '10.20.%' or client_address like 'fd20:%')"""
    )
    (lost,) = one(f"select sum(events_lost) from read_parquet('{WEB_DAY}/health/**/*.parquet')")
    assert (foreign, lost) == (0, 0)


FOLDERS = sorted(path.parent for path in SAMPLES.glob("*/known.json"))
TOLD = {path.name: json.loads((path / "known.json").read_text()) for path in FOLDERS}

OTHERWISE = ("port-scan", "gateway")  # a scan has no requests; a gateway's are partly encrypted: tests of their own


@pytest.mark.parametrize("name", [name for name in TOLD if "counts" in TOLD[name] and name not in OTHERWISE])
def test_samples_hold_every_answered_request_to_the_byte(name: str) -> None:
    counts = [one for label, one in TOLD[name]["counts"].items() if label != "top"]
    # What of a request that was given up half way went out is known to nobody.
    if any("TimeoutError" in count for count in counts):
        assert name == "accept-queue"
        return
    flows = f"read_parquet('{SAMPLES / name}/flows/**/*.parquet')"
    assert one(
        f"""select sum(client_bytes), sum(server_bytes) from {flows}
        where not duplicate and process_name like 'python%' and server_port not in (6379, 5201)"""
    ) == tuple(sum(count[side] for count in counts) for side in ("client_bytes", "server_bytes"))


def test_the_scan_is_told_to_the_contact() -> None:
    known = TOLD["port-scan"]
    assert one(
        f"""select count(*), count(*) filter (tcp_close = 'connect_failed')
        from read_parquet('{SAMPLES}/port-scan/flows/**/*.parquet')
        where client_address = '{known["scanner"]}' and not duplicate"""
    ) == (known["scan"]["contacts"], known["scan"]["refused"])


@pytest.mark.parametrize("folder", FOLDERS, ids=[path.name for path in FOLDERS])
def test_every_sample_is_small_and_explains_itself(folder: Path) -> None:
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 1_000_000
