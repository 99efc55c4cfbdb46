"""nft rules of a filter: checked by nft, and counted by the kernel on real packets."""

from __future__ import annotations

import json
import random
import socket
import subprocess
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netrec.errors import FilterError
from netrec.filter import parse
from netrec.filter.evaluate import evaluate
from netrec.filter.nftables import MAXIMUM_RULES, rules
from tests.support.filter_flows import filters, flows
from tests.support.namespaces import Network


def ruleset(texts: list[str]) -> str:
    """One chain and counter for each filter; a packet is counted by the first rule that matches it."""
    lines = ["table inet filters {"]
    lines += [f"counter c{index} {{ }}" for index in range(len(texts))]
    for index, text in enumerate(texts):
        lines.append(f"chain f{index} {{")
        lines += [f"{match} counter name c{index} return" for match in rules(parse(text), text=text)]
        lines.append("}")
    lines.append("chain output { type filter hook output priority 0; policy accept;")
    lines += [f"jump f{index}" for index in range(len(texts))]
    return "\n".join([*lines, "}", "}", ""])


@pytest.mark.kernel
def test_nft_takes_every_filter_and_counts_what_the_reference_says(network: Network) -> None:
    texts: list[str] = []

    @settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(filters(owners=False), min_size=2, max_size=2))
    def collect(some: list[str]) -> None:
        for text in some:
            try:
                if len(rules(parse(text))) <= 20:
                    texts.append(text)
            except FilterError as error:  # too many rules: refused in words
                assert "nft rules" in str(error)

    collect()
    # What the random addresses cannot reach: packets here are from and to the loopback.
    own = ["127.0.0.1", "127.1.2.3", "127.0.0.0/8", "::1", "fd00::1", "fd00::/8", "fd00::2", "::1/128", "127.128.0.0/9"]
    chance = random.Random(7)
    for _ in range(120):
        words = [
            f"{chance.choice(['', 'not '])}{chance.choice(['', 'src ', 'dst ', 'src or dst ', 'src and dst '])}net "
            f"{chance.choice(own)}"
            if chance.random() < 0.6
            else chance.choice(["port 53", "src port 1000", "udp", "not ip", "tcp", "portrange 50-1000", "not port 53"])
            for _ in range(3)
        ]
        texts.append(f"not ({words[0]} or {words[1]}) {chance.choice(['and', 'or'])} {words[2]}")
    texts = sorted(set(texts))
    assert len(texts) > 200
    namespace = network.namespace("nft")
    for address in ("fd00::1", "fd00::2"):
        namespace.run("ip", "address", "add", f"{address}/128", "dev", "lo", "nodad")
    command = namespace.command("nft", "-f", "-")
    done = subprocess.run(command, input=ruleset(texts), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[:2000]

    rows: list[dict[str, Any]] = []
    with namespace.entered():
        for version, addresses in (
            (4, ["127.0.0.1", "127.1.2.3", "127.200.0.1"]),
            (6, ["::1", "fd00::1", "fd00::2"]),
        ):
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            for source in addresses:
                for port in (1000, 53, 22):
                    with socket.socket(family, socket.SOCK_DGRAM) as sender:
                        sender.bind((source, port))
                        for destination in addresses:
                            with socket.socket(family, socket.SOCK_DGRAM) as receiver:
                                receiver.bind((destination, 443))
                                sender.sendto(b"x", (destination, 443))
                            row = {"client_address": source, "server_address": destination, "client_port": port}
                            rows.append(
                                {**row, "server_port": 443, "transport": "udp", "network_type": f"ipv{version}"}
                            )
    listed = json.loads(namespace.run("nft", "-j", "list", "counters").stdout)["nftables"]
    counts = {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}
    batch = flows(rows)
    for index, text in enumerate(texts):
        assert counts[f"c{index}"] == evaluate(parse(text), batch).sum(), (text, rules(parse(text)))


def test_owners_are_refused_at_their_place() -> None:
    text = "tcp port 80 and process nginx"
    with pytest.raises(FilterError, match="forwarded packets") as caught:
        rules(parse(text), text=text)
    assert text[slice(*caught.value.span)] == "process nginx"


def test_simple_filters_give_simple_rules() -> None:
    assert rules(parse("server net 10.0.0.0/8")) == ["ip daddr 10.0.0.0/8"]
    assert rules(parse("tcp dst port 443")) == ["meta l4proto 6 th dport 443"]
    assert rules(parse("not dst host 10.0.0.1")) == ["meta nfproto ipv6", "ip daddr != 10.0.0.1/32"]
    assert rules(parse("tcp and tcp")) == ["meta l4proto 6"]


def test_too_many_rules_are_refused() -> None:
    text = " and ".join(f"(host 10.0.0.{n} or port {n})" for n in range(1, 12))
    with pytest.raises(FilterError, match=f"more than {MAXIMUM_RULES}"):
        rules(parse(text))
