"""A host that lacks what the proxy needs: one sentence with what helps, and nothing changed on it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import NETREC, Gateway, fetch, seen_by, who_server
from tests.support.namespaces import Network

pytestmark = pytest.mark.kernel

# A kernel without nft_tproxy does not know the expression's name and looks for a module in vain. Another unknown name
# in the same place makes this kernel do the same; everything else goes to it as it is.
WITHOUT_TPROXY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/socket.h>

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags)
{
    static ssize_t (*next)(int, const struct msghdr *, int);
    if (!next)
        next = dlsym(RTLD_NEXT, "sendmsg");
    for (size_t part = 0; part < message->msg_iovlen; part++) {
        char *found, *at = message->msg_iov[part].iov_base, *end = at + message->msg_iov[part].iov_len;
        while ((found = memmem(at, end - at, "tproxy\0", 7))) {
            if (found >= at + 4 && found[-2] == 1 && found[-1] == 0) /* NFTA_EXPR_NAME; our table's name ends alike */
                memcpy(found, "absent", 6);
            at = found + 7;
        }
    }
    return next(descriptor, message, flags);
}
"""


@pytest.fixture
def gateway(network: Network) -> Gateway:
    return Gateway(network)


@pytest.fixture
def no_nftables(tmp_path: Path) -> dict[str, str]:
    """The library is the first that the loader finds, and is none."""
    (tmp_path / "libnftables.so.1").write_bytes(b"")
    return {"LD_LIBRARY_PATH": str(tmp_path)}


@pytest.fixture
def no_tproxy(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "kernel.c").write_text(WITHOUT_TPROXY)
    library = tmp_path / "kernel.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "kernel.c"], check=True, timeout=60)
    return {"LD_PRELOAD": str(library)}


def state(gateway: Gateway) -> list[str]:
    """Rules, routes and sysctls of the gateway; not the kernel's own routes, which come as addresses are probed."""
    run = gateway.host.run
    shown = [run("nft", "list", "ruleset").stdout]
    for family in ("-4", "-6"):
        routes = run("ip", family, "route", "show", "table", "all").stdout.splitlines()
        shown += [run("ip", family, "rule").stdout, *(one for one in routes if "proto kernel" not in one)]
    return [*shown, run("sysctl", "-a", "--pattern", "forward|rp_filter|src_valid_mark").stdout]


def refused(gateway: Gateway, trace: Path, environment: dict[str, str]) -> str:
    """What a recording that cannot begin says; the traffic and the host are as before."""
    gateway.host.run("nft", "add table ip others; add chain ip others c { type filter hook forward priority 0; }")
    port = who_server(gateway.server, gateway.server4)
    before = state(gateway)
    words = [f"{name}={value}" for name, value in environment.items()]
    options = ["--source", "tproxy", "--interface", gateway.inside, "-o", trace, "--duration", "1s"]
    done = gateway.host.run("env", *words, NETREC, "record", *options, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert state(gateway) == before
    assert not trace.exists() or not list(trace.rglob("*.parquet"))
    assert seen_by(fetch(gateway.client, gateway.server4, port))[0] == gateway.client4
    dry = gateway.host.run("env", *words, NETREC, "record", *options, "--dry-run", check=False)
    assert dry.returncode == 2 and dry.stderr.removeprefix("netrec: ") in done.stderr
    return done.stderr


def test_without_nftables(gateway: Gateway, tmp_path: Path, no_nftables: dict[str, str]) -> None:
    said = refused(gateway, tmp_path / "trace", no_nftables)
    assert "nftables is not installed" in said and "apt-get install nftables" in said
    assert "Traceback" not in said and len(said.strip().splitlines()) <= 2


def test_without_tproxy_in_the_kernel(gateway: Gateway, tmp_path: Path, no_tproxy: dict[str, str]) -> None:
    said = refused(gateway, tmp_path / "trace", no_tproxy)
    assert "this kernel or this nft cannot do it" in said and "No such file or directory" in said
    assert "nft_tproxy" in said
    assert "Traceback" not in said and len(said.strip().splitlines()) <= 2


def test_the_stand_in_refuses_nothing_else(gateway: Gateway, no_tproxy: dict[str, str]) -> None:
    """Under it, nft takes a table of that very name, and refuses the statement alone, as the kernel would."""
    preload = f"LD_PRELOAD={no_tproxy['LD_PRELOAD']}"
    chain = "add chain inet netrec_tproxy p { type filter hook prerouting priority mangle; }"
    rule = "add rule inet netrec_tproxy p meta l4proto tcp"
    gateway.host.run("env", preload, "nft", f"add table inet netrec_tproxy; {chain}; {rule} accept")
    done = gateway.host.run("env", preload, "nft", f"{rule} tproxy to :1", check=False)
    assert done.returncode == 1 and "Could not process rule: No such file or directory" in done.stderr
    assert gateway.host.run("nft", f"{rule} tproxy to :1").returncode == 0
