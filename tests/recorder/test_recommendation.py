"""The decision, on invented facts; what is read of a real host is in tests/kernel/test_recommendation_facts.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from recorder.recommendation import Facts, _forwarded, _links, recommend
from recorder.source import Readiness

READY = Readiness(True)
NO_BTF = Readiness(False, "this kernel has no BTF", "take a kernel of the distribution")
OTHER_PROXY = Readiness(False, "another transparent proxy is at work here", "record its log instead")
HOST = Facts({"ebpf": READY, "tproxy": READY}, inside=(), outside=("eth0",))
GATEWAY = replace(HOST, forwards=True, forwarded=1234567, inside=("eth1",))
SQUID = (("squid", "/var/log/squid/access.log"),)


def facts(base: Facts, ebpf: Readiness = READY, tproxy: Readiness = READY, **changes: object) -> Facts:
    return replace(base, ready={"ebpf": ebpf, "tproxy": tproxy}, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "command"),
    [
        (HOST, "sudo netrec record --source ebpf -o trace"),
        (GATEWAY, "sudo netrec record --source tproxy --interface eth1 -o trace"),
        # Forwarding is on (as container engines leave it), and nothing has been forwarded, or there is nowhere to.
        (replace(GATEWAY, forwarded=0), "sudo netrec record --source ebpf -o trace"),
        (replace(GATEWAY, inside=()), "sudo netrec record --source ebpf -o trace"),
        (replace(GATEWAY, forwards=False), "sudo netrec record --source ebpf -o trace"),
        # No default route, or two.
        (replace(GATEWAY, inside=("a", "b"), outside=()), "sudo netrec record --source tproxy --interface a -o trace"),
        (replace(GATEWAY, inside=(), outside=("a", "b")), "sudo netrec record --source tproxy --interface a -o trace"),
        (replace(HOST, logs=SQUID), "netrec record --source squid --log /var/log/squid/access.log -o trace"),
        (replace(GATEWAY, logs=SQUID), "sudo netrec record --source tproxy --interface eth1 -o trace"),
        (
            facts(GATEWAY, tproxy=OTHER_PROXY, logs=SQUID),
            "netrec record --source squid --log /var/log/squid/access.log -o trace",
        ),
        (facts(HOST, ebpf=NO_BTF), "sudo netrec record --source tproxy --local -o trace"),
    ],
)
def test_the_command_that_suits(known: Facts, command: str) -> None:
    found = recommend(known)
    assert found.command == command
    assert found.first == ""
    assert found.sentence.startswith(f"{found.source}, because ") and found.sentence.endswith(command)
    assert "\n" not in found.sentence


def test_what_has_to_be_mended_first_is_said() -> None:
    found = recommend(facts(HOST, NO_BTF, OTHER_PROXY))
    assert found.source == "ebpf"
    assert found.first == "this kernel has no BTF; take a kernel of the distribution"
    found = recommend(facts(GATEWAY, READY, OTHER_PROXY))
    assert found.source == "tproxy" and "another transparent proxy" in found.sentence


def test_the_reason_has_the_facts() -> None:
    assert "1,234,567 packets forwarded between eth1, eth0" in recommend(GATEWAY).reason
    assert "this kernel has no BTF" in recommend(facts(HOST, ebpf=NO_BTF)).reason
    assert "another transparent proxy" in recommend(facts(GATEWAY, tproxy=OTHER_PROXY, logs=SQUID)).reason


def test_forwarded_packets_of_both_versions() -> None:
    snmp = "Ip: Forwarding DefaultTTL ForwDatagrams\nIp: 1 64 42\nIcmp: InMsgs\nIcmp: 7\n"
    assert _forwarded(snmp, "Ip6InReceives    \t9\nIp6OutForwDatagrams             \t8\n") == 50
    assert _forwarded("", "") == 0


def link(name: str, kind: str = "", master: str = "", flags: str = "UP", scope: str = "global") -> dict[str, object]:
    return {
        "ifname": name,
        "flags": [flags],
        "linkinfo": {"info_kind": kind},
        "addr_info": [{"scope": scope}] if scope else [],
    } | ({"master": master} if master else {})


def test_links_that_lead_off_the_host() -> None:
    shown = [
        link("lo", flags="LOOPBACK"),
        link("eth0"),
        link("eth1", flags="BROADCAST"),  # down
        link("docker0", "bridge"),
        link("veth1", "veth", "docker0", scope="link"),
        link("empty", "bridge"),
        link("br-lan", "bridge"),
        link("eth2", "", "br-lan", scope=""),
        link("virbr0", "bridge"),
        link("tap1", "tun", "virbr0", scope=""),
        link("wg0", "wireguard"),
    ]
    assert list(_links(shown)) == ["eth0", "br-lan", "virbr0", "wg0"]
