"""Counting that depends on what the trace holds gives the same answers as the general way does."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyze.scan import Scan
from tests.analyze.traces import flow, write

LOCAL = {"client_address": "127.0.0.1", "server_address": "127.0.0.1"}


@pytest.mark.parametrize("sampling", [None, 1, 4])
def test_rows_that_a_condition_is_null_for_are_not_counted(tmp_path: Path, sampling: int | None) -> None:
    rows = [
        flow(1, 0, 1, tcp_close=None, flow_end_reason="forced", sampling_interval=sampling),
        flow(2, 0, 1, tcp_close="timeout", server_port=80, sampling_interval=sampling),
        flow(3, 0, 1, tcp_close=None, flow_end_reason="forced", server_port=80, sampling_interval=sampling),
    ]
    write(tmp_path, "flows", rows)
    scan = Scan([tmp_path])
    scan.require("flows")
    found = scan.fetch(
        "select server_port, tally(tcp_close = 'timeout', weight) as timeouts from flow group by 1 order by 1"
    )
    assert found == [(80, sampling or 1), (443, 0)]


@pytest.mark.parametrize("local", [False, True])
def test_losses_of_second_sightings_are_counted_where_there_are_any(tmp_path: Path, local: bool) -> None:
    rows = [flow(1, 0, 1, client_retransmits=3, **LOCAL)]
    if local:
        rows.append(
            flow(2, 0, 1, role="server", client_retransmits=None, server_retransmits=4, duplicate=True, **LOCAL)
        )
    write(tmp_path, "flows", rows)
    scan = Scan([tmp_path])
    scan.require("flows")
    sums = "select sum(flows)::BIGINT, sum(bytes)::BIGINT, sum(retransmits)::BIGINT from flow_with_losses"
    assert scan.fetch(sums) == [(1, 1000, 7 if local else 3)]
    plain = [column for column, *_ in scan.fetch("describe select * from flow")]
    assert [column for column, *_ in scan.fetch("describe select * from flow_with_losses")] == plain
