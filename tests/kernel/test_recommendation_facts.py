"""The facts behind `netrec doctor`'s recommendation, read where they are known: on a gateway in a namespace."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from recorder.recommendation import Facts, facts
from tests.support.gateway import NETREC, Gateway, fetch, who_server
from tests.support.namespaces import Network, wait_until

pytestmark = pytest.mark.kernel


def read(gateway: Gateway) -> Facts:
    with gateway.host.entered():
        return facts({})


def doctor(gateway: Gateway) -> dict[str, str]:
    said = json.loads(gateway.host.run(NETREC, "doctor", "--json").stdout)
    advice: dict[str, str] = said["recommendation"]
    return advice


def test_a_gateway_is_one_while_it_forwards(network: Network) -> None:
    gateway = Gateway(network)
    outer = gateway.far.first
    gateway.network.route(gateway.host, gateway.server4)
    links = {"inside": (gateway.inside,), "outside": (outer.device,)}
    before = read(gateway)
    assert {"inside": before.inside, "outside": before.outside} == links
    assert before.forwards
    port = who_server(gateway.server, gateway.server4)
    assert gateway.client4 in fetch(gateway.client, gateway.server4, port)
    after = read(gateway)
    assert after.gateway
    assert after.forwarded >= before.forwarded + 6  # three packets of a handshake, two of data, a FIN
    advice = doctor(gateway)
    assert advice["command"] == f"sudo netrec record --source tproxy --interface {gateway.inside} -o trace"
    gateway.host.sysctl(net__ipv4__ip_forward=0, net__ipv6__conf__all__forwarding=0)
    closed = read(gateway)
    assert not closed.forwards and not closed.gateway
    assert doctor(gateway)["source"] == "ebpf"


def test_a_proxy_of_others_and_its_log(network: Network, tmp_path: Path) -> None:
    """A real Squid is found by its open log; with rules of its own on a gateway, it is what is recommended."""
    gateway = Gateway(network)
    port = who_server(gateway.server, gateway.server4)
    fetch(gateway.client, gateway.server4, port)
    folder = tmp_path / "squid"
    folder.mkdir()
    folder.chmod(0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    (tmp_path / "squid.conf").write_text(
        f"http_port 3128\naccess_log stdio:{folder}/access.log\ncache_log {folder}/cache.log\n"
        f"pid_filename {folder}/squid.pid\ncache_store_log none\nshutdown_lifetime 0 seconds\n"
        "visible_hostname gateway\npinger_enable off\n"
    )
    gateway.host.start(
        "squid", "-N", "-f", tmp_path / "squid.conf", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    wait_until(lambda: ":3128" in gateway.host.run("ss", "-Hlnt").stdout, "Squid listens")
    log = ("squid", str(folder / "access.log"))
    assert read(gateway).logs == (log,)
    with gateway.client.entered():  # another network namespace is another host
        assert facts({}).logs == ()
    assert doctor(gateway)["source"] == "tproxy"
    rule = (
        "table ip peer { chain p { type filter hook prerouting priority mangle; "
        "meta l4proto tcp tproxy to :3128 accept; }; }"
    )
    gateway.host.run("nft", rule)
    advice = doctor(gateway)
    assert advice["command"] == f"netrec record --source squid --log {log[1]} -o trace"
    assert "another transparent proxy" in advice["reason"]
