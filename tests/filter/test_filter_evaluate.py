"""What a filter means, on flows that can be checked by eye, and SQL and tcpdump against it."""

from __future__ import annotations

import socket
import struct
import subprocess
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netrec.errors import FilterError
from netrec.filter import parse
from netrec.filter.evaluate import evaluate
from netrec.filter.nodes import Address
from netrec.filter.sql import address_in, ipv6_digits, to_sql
from tests.support.filter_flows import IPV4, IPV6, NETWORKS, filters, flow, flows

WEB = {
    "network_type": "ipv4", "transport": "tcp", "client_address": "10.0.0.1", "client_port": 40000,
    "server_address": "192.168.1.1", "server_port": 443, "process_name": "nginx", "process_pid": 7, "process_uid": 33,
    "process_unit": "nginx.service", "container_id": "4b8d0a" + "0" * 58, "cgroup_id": 99,
}  # fmt: skip
DNS = {
    "network_type": "ipv6", "transport": "udp", "client_address": "2001:db8::1", "client_port": 5353,
    "server_address": "fe80::1", "server_port": 53,
}  # fmt: skip
PING = {"network_type": "ipv6", "transport": "icmp6", "client_address": "::1", "server_address": "::1"}


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("tcp", "w"), ("udp", "d"), ("icmp6", "p"), ("icmp", ""), ("ip", "w"), ("ip6", "dp"), ("proto 17", "d"),
        ("host 10.0.0.1", "w"), ("src host 10.0.0.1", "w"), ("dst 10.0.0.1", ""), ("client host 10.0.0.1", "w"),
        ("net 10", "w"), ("net 192.168.0.0/16", "w"), ("server net 10", ""), ("net 2001:db8::/32", "d"),
        ("src and dst ::1", "p"), ("port 443", "w"), ("port https", "w"), ("src port 443", ""),
        ("server port 443 or 53", "wd"), ("udp port 443", ""), ("portrange 50-60", "d"),
        ("port 443 or 53 and tcp", "w"), ("tcp and port 443 or 53", "wd"), ("not port 443", "dp"),
        ("! port 443 and 53", "d"), ("not (port 443 or 53)", "p"), ("process nginx", "w"),
        ("not process nginx", "dp"), ("pid 7", "w"), ("uid 33", "w"), ("uid 0", ""), ("unit nginx", "w"),
        ("container 4b8d0a", "w"), ("cgroup 99", "w"), ("cgroup 98", ""), ("cgroup /a", "w"),
        ("not cgroup /a", "dp"), ("tcp or udp and ip6", "d"),
    ],
)  # fmt: skip
def test_meaning(text: str, matched: str) -> None:
    batch = flows([WEB, DNS, PING])
    numbers = {"/a": {99, 100}}.__getitem__
    expected = [letter in matched for letter in "wdp"]
    assert evaluate(parse(text), batch, cgroup_numbers=numbers).tolist() == expected
    sql = to_sql(text, cgroup_numbers=numbers)
    assert in_sql(sql, batch).tolist() == expected, sql


CONNECTION = duckdb.connect(config={"threads": "1"})


def in_sql(condition: str, batch: pa.RecordBatch) -> np.ndarray:
    table = pa.Table.from_batches([batch]).append_column("row", pa.array(range(batch.num_rows)))
    CONNECTION.register("flows", table)
    rows = CONNECTION.execute(f"SELECT row FROM flows WHERE {condition}").fetchall()
    mask = np.zeros(batch.num_rows, bool)
    mask[[row for (row,) in rows]] = True
    return mask


@settings(max_examples=150, deadline=None)
@given(filters(), st.lists(flow(), min_size=1, max_size=30))
def test_sql_agrees_with_the_reference(text: str, rows: list[dict[str, object]]) -> None:
    batch = flows(rows)
    sql = to_sql(text)
    assert (in_sql(sql, batch) == evaluate(parse(text), batch)).all(), sql


def test_sql_networks_agree_with_ipaddress() -> None:
    addresses = IPV4 + IPV6
    for text in NETWORKS:
        node = parse(f"net {text}")
        assert isinstance(node, Address)
        (network,) = node.networks
        query = f"SELECT {address_in('a', network)} FROM (SELECT unnest(?) AS a)"
        found = [row[0] for row in CONNECTION.execute(query, [addresses]).fetchall()]
        assert found == [ip_address(address) in network for address in addresses], text


@settings(max_examples=100, deadline=None)
@given(st.lists(st.ip_addresses(v=6), min_size=1, max_size=20), st.integers(0, 128))
def test_ipv6_digits(addresses: list[IPv6Address], length: int) -> None:
    network = IPv6Network((addresses[0], length), strict=False)
    query = f"SELECT {ipv6_digits('a')}, {address_in('a', network)} FROM (SELECT unnest(?) AS a)"
    rows = CONNECTION.execute(query, [[str(address) for address in addresses]]).fetchall()
    assert rows == [(address.exploded.replace(":", ""), address in network) for address in addresses]


def test_ipv6_text_that_ends_in_ipv4() -> None:
    forms = ["::ffff:1.2.3.4", "::ffff:102:304", "::1.2.3.4", "::102:304", "::255.0.16.9", "::ff00:1009"]
    for text in ("host ::ffff:1.2.3.4", "net ::/96", "net ::ffff:0:0/96", "host ::102:304", "net ::ff00:0/104"):
        batch = flows([{"client_address": form} for form in forms])
        assert in_sql(to_sql(f"src {text}"), batch).tolist() == evaluate(parse(f"src {text}"), batch).tolist(), text


def test_sql_refuses_a_cgroup_path_that_it_cannot_resolve() -> None:
    with pytest.raises(FilterError, match="by number") as caught:
        to_sql("tcp and cgroup /system.slice")
    assert caught.value.span == (8, 28)


def test_null_addresses_and_text_that_is_none() -> None:
    batch = flows([{"client_address": "not an address"}, {}])
    assert evaluate(parse("net 0.0.0.0/0 or net ::/0"), batch).tolist() == [False, False]
    assert in_sql(to_sql("net 0.0.0.0/0 or net ::/0"), batch).tolist() == [False, False]
    assert evaluate(parse("not net 10"), batch).tolist() == [True, True]


# --- tcpdump itself as the judge -----------------------------------------------------------------------------------


def packet(row: dict[str, object]) -> bytes:
    """An IP packet of the flow, from its client to its server."""
    number = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58, "sctp": 132, "igmp": 2, "gre": 47, "protocol-253": 253}[
        str(row["transport"])
    ]
    client, server = (ip_address(str(row[f"{side}_address"])).packed for side in ("client", "server"))
    ports = struct.pack("!HH", row.get("client_port", 0), row.get("server_port", 0))
    payload = ports + (struct.pack("!HH", 12, 0) + b"1234" if number == 17 else b"\0" * 16)
    if row["network_type"] == "ipv4":
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, number, 0) + client + server + payload
    return struct.pack("!IHBB", 6 << 28, len(payload), number, 64) + client + server + payload


def tcpdump(text: str, rows: list[dict[str, object]], folder: Path) -> list[bool] | None:
    """Which packets tcpdump prints; None when it does not take the expression."""
    capture = folder / "flows.pcap"
    content = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)  # 101: raw IP
    for index, row in enumerate(rows):
        data = packet(row)
        content += struct.pack("<IIII", index, 0, len(data), len(data)) + data
    capture.write_bytes(content)
    command = ["tcpdump", "-tt", "-n", "-r", str(capture), "--", text]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if "rejects all packets" in done.stderr:
        return [False] * len(rows)
    if done.returncode:
        return None
    seen = {int(line.split(".")[0]) for line in done.stdout.splitlines() if line[:1].isdigit()}
    return [index in seen for index in range(len(rows))]


@settings(max_examples=80, deadline=None)
@given(filters(owners=False), st.lists(flow(whole=True), min_size=1, max_size=20))
def test_tcpdump_agrees(tmp_path_factory: pytest.TempPathFactory, text: str, rows: list[dict[str, object]]) -> None:
    theirs_text = text.replace("client", "src").replace("server", "dst")
    theirs = tcpdump(theirs_text, rows, tmp_path_factory.getbasetemp())
    assert theirs is not None, theirs_text
    assert evaluate(parse(text), flows(rows)).tolist() == theirs, theirs_text


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "net 10.1.2.3/8", "tcp or 443", "port 80 or tcp or 443", "tcp host 1.2.3.4", "ip port 80",
        "tcp src 1.2.3.4", "src 10/8", "ip host 2001:db8::1", "ip6 host 1.2.3.4", "ip6 net 10",
        "net 10 mask 255.0.0.0 mask 1", "host 10.0.0.0/8", "port 70000", "net 2001:db8::1/32", "port 80 443",
        "tcp udp", "net 1.2.3.4/0", "(port 80", "port 80)", "src port", "tcp port 80-90", "src or src port 80",
        "not", "and tcp", "tcp and", "()", "port ()", "port no-such-service", "host 1.2.3.4.5",
        "icmp host 1.2.3.4", "tcp tcp", "src", "net", "host", "portrange", "proto", "ip proto no-such",
        "host 1.2.3.4 mask 255.0.0.0",
    ],
)  # fmt: skip
def test_what_tcpdump_refuses_is_refused(text: str, tmp_path: Path) -> None:
    assert tcpdump(text, [WEB], tmp_path) is None
    with pytest.raises(FilterError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "port 80 or 443", "port 80 or (443 or 8080)", "src or dst port 80", "src and dst port 443",
        "not port 80 and 90", "host localhost", "! (host 1.2.3.4 or 1.2.3.5)", "host (10.0.0.1 or 1.2.3.5)",
        "tcp port (80 or 443)", "ip proto \\tcp", "portrange 90-80", "port http", "portrange http-https",
        "portrange 443", "udp portrange 1-2", "net 10.0.0.0 mask 255.0.0.0", "not not tcp", "port not 80",
        "host not 1.2.3.4", "port 80 and not 443 or 22", "src net 10 or 11", "dst 1.2.3.4 or 80.1.1.1",
        "port (443)", "tcp src or dst port 443", "dst or src port 443", "ip proto 6 or 17", "net 10.0.0",
        "proto 6", "port 0x1bb", "tcp&&port 443", "ah or esp or pim or vrrp or igmp or sctp",
        "host 10.0.0.1||port 80", "ip host 10.0.0.1", "!tcp", "net 192 or 10 and port 443",
    ],
)  # fmt: skip
def test_what_tcpdump_takes_is_taken_alike(text: str, tmp_path: Path) -> None:
    theirs = tcpdump(text, [WEB, DNS], tmp_path)
    assert theirs is not None
    assert evaluate(parse(text), flows([WEB, DNS])).tolist() == theirs
    assert socket.getservbyname("http") == 80  # the names above are those of /etc/services
