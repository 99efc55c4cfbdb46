"""The analyses on the recorded samples: the pattern, the place, the moment and the scanner that are known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.analyze.conftest import Answer

Run = Callable[..., Answer]
SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
TOLD = {path.parent.name: json.loads(path.read_text()) for path in SAMPLES.glob("*/known.json")}
INCIDENTS = sorted(name for name, known in TOLD.items() if "incident" in known)


def answer(netrec: Run, analysis: str, name: str, code: int = 1) -> dict[str, Any]:
    found = netrec("analyze", analysis, SAMPLES / name, "--format", "json")
    assert found.code == code, found.err
    told: dict[str, Any] = json.loads(found.out)
    return told


@pytest.mark.parametrize("name", INCIDENTS)
def test_a_recorded_incident_is_named_where_and_when_it_was(netrec: Run, name: str) -> None:
    known = TOLD[name]
    told = answer(netrec, "incident", name)
    assert told["pattern"] == known["incident"]["pattern"]
    assert known.get("service", known.get("copy", {}).get("service")) in told["sentence"]
    phase = known["phases"][known["incident"]["phase"]]
    begun, told_begin = (datetime.fromisoformat(text) for text in (phase["since"], told["window"]["since"]))
    assert abs((told_begin - begun).total_seconds()) <= 5


def test_the_scanner_is_named_and_nobody_else(netrec: Run) -> None:
    told = answer(netrec, "security", "port-scan")
    assert {row["source"] for row in told["findings"]} == {TOLD["port-scan"]["scanner"]}


def test_the_regressed_service_is_found_and_the_path_that_it_comes_from(netrec: Run) -> None:
    office = TOLD["service-baseline"]["office"]
    both = (SAMPLES / "service-baseline", SAMPLES / "service-regressed")
    found = netrec("analyze", "compare", *both, "--format", "json")
    told = json.loads(found.out)
    assert (found.code, told["verdict"]) == (1, "regressed"), found.err
    assert f"client {office}" in told["sentence"]
    regressed = {row["metric"] for row in told["metrics"] if row["verdict"] == "regressed"}
    assert regressed == {"retransmit_ratio", "connect_p99"}
    # Nothing was sent again before: how many times more it is now says nothing, and is not said.
    before = {row["metric"]: row["baseline"] for row in told["metrics"]}
    assert before["retransmit_ratio"] == before["connect_failure_ratio"] == 0
    assert "retransmitted share of packets from none to 1." in told["sentence"]
    first = next(row for row in told["slices"] if row["metric"] == "retransmit_ratio")
    assert (first["dimension"], first["value"]) == ("client", office)
    # One of twenty packets of an upload is lost; that an acknowledgement is lost needs no retransmit.
    assert 0.03 <= first["candidate"] <= 0.07 and first["share_of_change"] > 0.99


@pytest.mark.parametrize("name", ["service-baseline", "service-regressed"])
def test_a_service_against_itself_is_not_regressed(netrec: Run, name: str) -> None:
    both = (SAMPLES / name, SAMPLES / name)
    told = json.loads(netrec("analyze", "compare", *both, "--format", "json").out)
    assert not [row["metric"] for row in told["metrics"] if row["verdict"] in ("regressed", "improved")]


def test_the_service_against_itself_passes(netrec: Run) -> None:
    both = (SAMPLES / "service-baseline", SAMPLES / "service-baseline")
    passed = netrec("analyze", "compare", *both, "--fail-on", "retransmit_ratio")
    assert (passed.code, passed.out.split(":")[0]) == (0, "Pass"), passed


def test_an_ordinary_day_says_what_fills_first(netrec: Run) -> None:
    known = TOLD["ordinary-day"]
    first = answer(netrec, "capacity", "ordinary-day", code=0)["resources"][0]
    assert (first["resource"], first["limit"]) == ("ephemeral_ports", known["ports"])
    # The flows say the same as the gauge: ports that nginx opened within 60 s, and a few of the copy.
    opened = netrec("analyze", "port-use", SAMPLES / "ordinary-day", "--format", "ndjson").out.splitlines()
    ports = next(row for row in map(json.loads, opened) if row["service"] == known["application"])
    assert ports["connections"] == known["counts"]["orders"]["connections"]
    assert first["peak"] == pytest.approx(ports["peak"], rel=0.1)


def test_of_an_ordinary_day_only_the_copy_at_night_stands_out(netrec: Run) -> None:
    known = TOLD["ordinary-day"]
    told = answer(netrec, "incident", "ordinary-day")
    assert told["pattern"] == "elephant" and known["copy"]["service"] in told["sentence"]
    summary = json.loads(netrec("analyze", "summary", SAMPLES / "ordinary-day", "--format", "ndjson").out)
    assert (summary["connect_failures"], summary["resets"]) == (0, 0)
    (row,) = (
        json.loads(line)
        for line in netrec(
            "analyze", "elephants", SAMPLES / "ordinary-day", "-n", "1", "--format", "ndjson"
        ).out.splitlines()
    )
    assert row["client_bytes"] == known["copy"]["bytes"]
    answer(netrec, "security", "ordinary-day", code=0)


def rows_of(netrec: Run, query: str, sample: str, *options: str) -> list[dict[str, Any]]:
    found = netrec("analyze", query, SAMPLES / sample, "--format", "ndjson", *options)
    assert found.code == 0, found.err
    return [json.loads(line) for line in found.out.splitlines()]


def test_the_shipped_programs_and_dns_count_what_the_workload_counted(netrec: Run) -> None:
    known = TOLD["own-programs"]
    counts = known["counts"]
    accepted = {row["service"]: row["accepted"] for row in rows_of(netrec, "accept-latency", "own-programs")}
    assert accepted == {
        known["service"]: counts["orders"]["connections"],
        f"{known['resolver']} 80": counts["pages"]["connections"] + counts["reports"]["connections"],
    }
    # Every connection was preceded by one answered query; those without an answer were asked again.
    assert {row["name"]: row["queries"] - row["failures"] for row in rows_of(netrec, "dns", "own-programs")} == {
        f"{label}.shop.example": counts[label]["connections"] for label in ("orders", "pages")
    }
    worst = rows_of(netrec, "window-collapses", "own-programs")[0]
    assert worst["path"] == f"{known['office']} -> {known['resolver']}"


def test_every_session_through_the_gateway_is_one_line_of_proxy_and_kernel(netrec: Run) -> None:
    known = TOLD["gateway"]
    counts = {label: count for label, count in known["counts"].items() if label != "top"}
    sessions = rows_of(netrec, "sessions", "gateway", "-n", "0")
    assert Counter((row["server_name"], row["path"], row["status"]) for row in sessions) == {
        ("shop.example", "/2000", 200): counts["pages"]["connections"],
        ("shop.example", "/20000", 200): counts["images"]["connections"],
        ("shop.example", "/api/200", 502): counts["orders"]["status 502"],
        ("shop.example", "/2001", 404): counts["typing-error"]["status 404"],
        (known["names"]["shop"], None, None): counts["shop"]["connections"],
        (known["names"]["accounts"], None, None): counts["accounts"]["connections"],
    }
    assert {(row["kernel"], row["unmatched"], row["close"]) for row in sessions} == {("both", 0, "fin")}
    assert all(row["client_rtt"] > 0 and row["server_rtt"] > 0 for row in sessions)
    plain = [row for row in sessions if row["path"]]
    clear = [counts[label] for label in ("pages", "images", "orders", "typing-error")]
    for side in ("client_bytes", "server_bytes"):
        assert sum(row[side] for row in plain) == sum(count[side] for count in clear)
    # The handshake and the records around what was said.
    for label, name in known["names"].items():
        encrypted = [row for row in sessions if row["server_name"] == name]
        assert {row["tls_version"] for row in encrypted} == {"1.3"}
        assert all(
            sum(row[side] for row in encrypted) > counts[label][side] for side in ("client_bytes", "server_bytes")
        )


def test_what_the_gateway_counts_is_counted_once(netrec: Run) -> None:
    known = TOLD["gateway"]
    asked = rows_of(netrec, "http-requests", "gateway")
    clear = {label: known["counts"][label] for label in ("pages", "images", "orders", "typing-error")}
    assert sorted(row["sessions"] for row in asked) == sorted(count["connections"] for count in clear.values())
    assert sorted(row["bytes"] for row in asked) == sorted(
        count["client_bytes"] + count["server_bytes"] for count in clear.values()
    )


def test_the_unanswered_datagrams_and_the_full_disk_are_told(netrec: Run) -> None:
    known = TOLD["gateway"]
    (unanswered,) = rows_of(netrec, "one-way-flows", "gateway")
    assert (unanswered["service"], unanswered["heard"]) == (known["syslog"], "client")
    assert (unanswered["flows"], unanswered["share"]) == (known["messages"], 1)
    gaps = rows_of(netrec, "gaps", "gateway")
    assert [(row["kind"], row["source"]) for row in gaps] == [("gap", name) for name in ("ebpf", "host", "tproxy")]
    for side, column in (("since", "start_time"), ("until", "end_time")):
        full = datetime.fromisoformat(known["phases"]["disk_full"][side])
        for row in gaps:
            assert abs((datetime.fromisoformat(row[column]) - full).total_seconds()) <= 2
    # Every source has a row of it; it is said once, also by what answers something else.
    shown = netrec("analyze", "summary", SAMPLES / "gateway")
    assert (shown.out + shown.err).count("not recording") == 1
    assert netrec("inspect", SAMPLES / "gateway").out.count("not recording") == 1
