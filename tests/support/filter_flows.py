"""Random filters and flows for the filter tests."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from netrec.trace.tables import FLOWS, batch

# Few values, so that filters and flows meet; with the zero runs, full groups and edges that address text can go
# wrong on.
IPV4 = [
    "0.0.0.0", "0.0.0.1", "10.0.0.1", "10.255.255.255", "11.0.0.0", "127.0.0.1", "172.15.255.255", "172.16.0.0",
    "172.31.255.255", "172.32.0.0", "192.168.1.1", "192.168.10.1", "223.255.255.255", "224.0.0.1", "255.255.255.255",
    "1.2.3.4", "100.64.0.1",
]  # fmt: skip
IPV6 = [
    "::", "::1", "2001:db8::", "2001:db8::1", "2001:db8:0:1::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::",
    "2001::1", "2001:0:1::2", "fe80::1", "fe80::dead:beef:1:2", "ff02::1:ff00:1", "1:2:3:4:5:6:7:8", "1::8",
    "1:0:0:2::8", "a00::", "a00:0:0:1::", "::ffff:102:304", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "ffff::", "64:ff9b::a00:1",
]  # fmt: skip
NETWORKS = [
    "10", "10.0.0.0/8", "172.16.0.0/12", "192.168", "192.168.1", "0.0.0.0/0", "224.0.0.0/4", "128.0.0.0/1",
    "1.2.3.4/31", "1.2.3.4", "100.64.0.0/10", "0.0.0.0/1", "10.0.0.0 mask 255.128.0.0", "2001:db8::/32",
    "2001::/16", "2001:db8::/33", "fe80::/10", "fc00::/7", "::/0", "::/1", "::/96", "::/127", "8000::/1",
    "2001:db8::1", "ff00::/8", "2001:0:1::/48", "2001:db8:0:1::/64", "a00::/8", "1:2:3:4:5:6:7:0/112",
]  # fmt: skip
PORTS = [0, 1, 22, 53, 80, 443, 1023, 8080, 32768, 65535]
PROCESSES = ["nginx", "my app", "a-very-long-pro", "sixteen-bytes-xx", "tcp", "it's"]
TRANSPORTS = ["tcp", "udp", "icmp", "icmp6", "sctp", "igmp", "gre", "protocol-253"]
CONTAINERS = ["4b8d0a" + "0" * 58, "4b8d0b" + "f" * 58]
UNITS = ["nginx.service", "user-1000.slice", "ssh@1.service"]


def flows(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """A flows batch of dictionaries."""
    columns = {}
    for field in FLOWS.fields:
        if any(field.name in row for row in rows):
            plain = pa.string() if pa.types.is_dictionary(field.type) else field.type
            columns[field.name] = pa.array([row.get(field.name) for row in rows], plain)
    return batch(FLOWS, columns, len(rows))


@st.composite
def flow(draw: st.DrawFn, *, whole: bool = False) -> dict[str, Any]:
    """One flow; not `whole`: what a row may lack is missing now and then."""
    version = draw(st.sampled_from([4, 6]))
    addresses = st.sampled_from(IPV4 if version == 4 else IPV6)
    transport = draw(st.sampled_from(TRANSPORTS))
    row: dict[str, Any] = {
        "network_type": f"ipv{version}",
        "transport": transport,
        "client_address": draw(addresses),
        "server_address": draw(addresses),
    }
    if transport in ("tcp", "udp", "sctp"):
        row |= {"client_port": draw(st.sampled_from(PORTS)), "server_port": draw(st.sampled_from(PORTS))}
    if whole or draw(st.booleans()):
        row |= {
            "process_name": draw(st.sampled_from(PROCESSES)).encode()[:15].decode(),
            "process_pid": draw(st.sampled_from([1, 2, 4194304])),
            "process_uid": draw(st.sampled_from([0, 33, 1000, 65534])),
            "cgroup_id": draw(st.sampled_from([1, 2, 2**40])),
        }
    if whole or draw(st.booleans()):
        row |= {"container_id": draw(st.sampled_from(CONTAINERS)), "process_unit": draw(st.sampled_from(UNITS))}
    return row


def _term(owners: bool) -> st.SearchStrategy[str]:
    side = st.sampled_from(
        ["", "src ", "dst ", "client ", "server ", "src or dst ", "src and dst ", "dst and src ", "client or server "]
    )
    low_high = st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS))
    kinds = [
        st.sampled_from(["tcp", "udp", "icmp", "icmp6", "ip", "ip6", "igmp", "sctp", "proto 47", "ip proto 17"]),
        st.sampled_from([r"ip6 proto \tcp", "proto 253", r"ip proto \icmp"]),
        st.builds("{}host {}".format, side, st.sampled_from(IPV4 + IPV6)),
        st.builds("{}net {}".format, side, st.sampled_from(NETWORKS)),
        st.builds("{}{}port {}".format, st.sampled_from(["", "tcp ", "udp "]), side, st.sampled_from(PORTS)),
        st.builds("{}port ({} or {})".format, side, st.sampled_from(PORTS), st.sampled_from(PORTS)),
        st.builds(lambda side, ends: f"{side}portrange {ends[0]}-{ends[1]}", side, low_high),
        st.sampled_from(["src host 10.0.0.1 or 1.2.3.4", "port 80 or 443", "net 10 or 172.16.0.0/12"]),
    ]
    if owners:
        kinds += [
            st.builds('process "{}"'.format, st.sampled_from(PROCESSES)),
            st.sampled_from(
                ["pid 1", "pid 4194304", "uid 0", "uid 65534", "user root", "cgroup 1", "cgroup 1099511627776"]
            ),
            st.sampled_from(["container 4b8d0a", "container 4b8d", "unit nginx", "unit user-1000.slice"]),
        ]
    return st.one_of(kinds)


def filters(*, owners: bool = True) -> st.SearchStrategy[str]:
    """Filter texts of some terms, joined and nested in every way."""
    return st.recursive(
        _term(owners),
        lambda inner: st.one_of(
            st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or", "&&", "||"]), inner),
            st.builds("{}({})".format, st.sampled_from(["", "not ", "! "]), inner),
            st.builds("not {}".format, inner),
        ),
        max_leaves=6,
    )
