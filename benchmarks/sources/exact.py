"""Every session and every byte: netrec's rows against nginx's own log, wrk at full load.

A row and a line of the log are the same when client port, request bytes and response bytes are. What wrk broke off
when its time was over is left out on both sides, and counted.
"""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.harness import Options, Report, Target, scratch
from benchmarks.sources.gateways import Gateway, Laboratory
from tests.support.gateway import recorded
from tests.support.namespaces import Network

SECONDS = 30
CONNECTIONS = 50
Session = tuple[int, int, int]


def run(options: Options) -> Report:
    report = Report(["what", "nginx's log", "netrec's rows"])
    with scratch() as folder, Network() as network:
        laboratory = Laboratory(network, folder, log=True)
        gateway = laboratory.netrec("netrec", "--duration", "1h")
        laboratory.wrk(gateway, options.size(SECONDS, 2), CONNECTIONS, short=True)
        logged, rows, broken_off, other = compare(laboratory, gateway, folder)
    report.rows = [
        ["sessions", sum(logged.values()), sum(rows.values())],
        ["request bytes", sum(one[1] * n for one, n in logged.items()), sum(one[1] * n for one, n in rows.items())],
        ["response bytes", sum(one[2] * n for one, n in logged.items()), sum(one[2] * n for one, n in rows.items())],
    ]
    report.targets = [
        Target("sessions that differ", float(other), 0.0),
        Target("sessions that wrk broke off at its end", float(broken_off), float(CONNECTIONS)),
    ]
    return report


def compare(
    laboratory: Laboratory, gateway: Gateway, folder: Path
) -> tuple[Counter[Session], Counter[Session], int, int]:
    """End recorder and nginx; the sessions of each, how many were broken off, and how many differ."""
    (recorder,) = gateway.processes
    recorder.send_signal(signal.SIGINT)
    if recorder.wait(60):
        raise RuntimeError((folder / f"{gateway.name}.err").read_text())
    laboratory.nginx.send_signal(signal.SIGQUIT)
    laboratory.nginx.wait(60)
    logged: Counter[Session] = Counter()
    for line in (folder / "access.log").read_text().splitlines():
        address, port, _, request, response = line.split()
        if address == gateway.client:
            logged[int(port), int(request), int(response)] += 1
    # A session that lived on over an interval has several rows.
    table = recorded(folder / gateway.name).group_by(["flow_id", "client_port"])
    sessions = table.aggregate([("client_bytes", "sum"), ("server_bytes", "sum"), ("closed_by", "max")])
    columns = ("client_port", "client_bytes_sum", "server_bytes_sum")

    def counted(sessions: pa.Table) -> Counter[Session]:
        return Counter(zip(*(sessions[name].to_pylist() for name in columns), strict=True))

    # wrk closes too, as soon as it has the whole answer: whoever came first, such a session is in the log. What wrk
    # broke off before that is in no log, or with fewer bytes.
    whole = counted(sessions.filter(pc.equal(sessions["closed_by_max"], "server")))
    rows = (counted(sessions) & logged) | whole
    broken_off = sum((logged - rows).values())
    return logged, rows, broken_off, sum((rows - logged).values())
