"""What would be put in place, as text; and a worker's stream -> rows, whatever the cuts."""

from __future__ import annotations

import os
from dataclasses import asdict

import pyarrow as pa
import pytest

from netrec.trace import tables
from recorder.sources.tproxy import wire
from recorder.sources.tproxy.checks import EXAMPLE
from recorder.sources.tproxy.journal import BACKLOG_LIMIT, TEXTS_LIMIT, Journal
from recorder.sources.tproxy.plan import Plan, from_json
from recorder.sources.tproxy.rows import WorkerStream
from recorder.sources.tproxy.session import End, Session


def test_a_plan_survives_its_way_to_the_guard() -> None:
    import json

    assert from_json(json.loads(json.dumps(asdict(EXAMPLE)))) == EXAMPLE


def test_only_packets_that_open_a_connection_are_ever_chosen() -> None:
    plan = Plan(("eth1",), True, True, (4, 6), ("tcp dport 80", "tcp dport 443"), 1234, 1 << 29, 1 << 28, 7801, 78)
    chosen = [line for line in plan.activate().splitlines() if "goto take" in line or "ct mark set" in line]
    assert len(chosen) == 4
    assert all("tcp flags & (fin | syn | rst | ack) == syn" in line for line in chosen)
    assert "flags owner" in plan.install()
    assert plan.deactivate().count("flush chain") == 2


def test_everything_that_is_added_is_taken_away() -> None:
    added = [command.replace(" add ", " del ").split(" proto")[0] for command in EXAMPLE.routes()]
    removed = [command.split(" proto")[0] for command in EXAMPLE.unroute()]
    assert sorted(added) == sorted(removed)


class Sock:
    def close(self) -> None: ...


def session(number: int, *, path: str = "/", ipv6: bool = False) -> Session:
    address = "2001:db8::1" if ipv6 else "10.0.0.1"
    made = Session(
        number, End(Sock(), wire.CLIENT), End(Sock(), wire.SERVER), (address, number), ("10.0.0.2", 80), ipv6
    )  # type: ignore[arg-type]
    made.method, made.path = "GET", path
    made.client.received, made.server.received = number, 2 * number
    return made


def written(sessions: list[Session], *, chunk: int = 0) -> pa.Table:
    """Through a journal and a pipe into rows, `chunk` bytes at a time."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    os.set_blocking(out, False)
    journal = Journal(into)
    stream = WorkerStream("host", lambda client: "none")
    batches = []
    for number, one in enumerate(sessions):
        one.write(journal, wire.END, one.start + 1000)
        if number % 50 == 49 or one is sessions[-1]:
            for _ in range(3):
                assert journal.flush()
                while True:
                    try:
                        data = os.read(out, chunk or 65536)
                    except BlockingIOError:
                        break
                    stream.feed(data)
            batches += stream.take()
    os.close(out)
    os.close(into)
    return pa.Table.from_batches(batches, tables.FLOWS.schema)


@pytest.mark.parametrize("chunk", [0, 1, 7])
def test_rows_do_not_depend_on_how_the_stream_is_cut(chunk: int) -> None:
    table = written([session(number, path=f"/{number}", ipv6=number % 2 == 0) for number in range(1, 120)], chunk=chunk)
    assert table["client_port"].to_pylist() == list(range(1, 120))
    assert table["client_bytes"].to_pylist() == list(range(1, 120))
    assert table["http_path"].to_pylist() == [f"/{number}" for number in range(1, 120)]
    assert table["network_type"].to_pylist()[:2] == ["ipv4", "ipv6"]
    assert table["alpn"].null_count == table["http_status"].null_count == 119


def test_texts_without_end_do_not_fill_the_memory() -> None:
    count = TEXTS_LIMIT + 1000
    out, into = os.pipe()
    journal = Journal(into)
    os.close(out)
    for number in range(count):
        journal.number(f"/{number}")
    journal.records += bytes(wire.RECORD.size)
    assert not journal.flush()  # the reader has gone: the worker must know
    assert len(journal._numbers) == 1
    os.close(into)


def test_a_recorder_that_does_not_read_costs_records_not_memory_and_they_are_counted() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    journal = Journal(into)
    sample = session(1)
    per_flush = 2000
    for _ in range(BACKLOG_LIMIT // (per_flush * wire.RECORD.size) + 20):
        for _ in range(per_flush):
            sample.write(journal, wire.END, sample.start)
        assert journal.flush()
    assert journal.lost > 0
    assert journal.lost % per_flush == 0
    assert len(journal._backlog) < BACKLOG_LIMIT + 2 * per_flush * wire.RECORD.size
    os.close(out)
    os.close(into)


def test_a_stream_out_of_step_is_refused() -> None:
    stream = WorkerStream("host", lambda client: "none")
    with pytest.raises(ValueError, match="out of step"):
        stream.feed(b"\xff" * 64)
