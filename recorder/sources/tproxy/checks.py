"""What is decided and checked before anything is changed: settings and this host -> a plan, or one sentence why not."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netrec.errors import CannotRecordError, UsageError
from netrec.filter import Filter
from netrec.filter.nftables import rules
from recorder.sources.tproxy import dial
from recorder.sources.tproxy.nftables import Nftables, NftablesError
from recorder.sources.tproxy.plan import PROTOCOL, TABLE, Plan

PIPES = 256
# What a worker needs besides its sessions: listeners, epoll, pipes to the recorder and the guard.
OTHER_DESCRIPTORS = 64
MARK_BITS = range(29, 15, -1)
TABLES = range(7801, 7900)
_CAP_NET_ADMIN = 12

# For `netrec doctor`: everything that any plan can need.
EXAMPLE = Plan(("lo",), True, True, (4, 6), ("",), 9999, 1 << 29, 1 << 28, 7801, 78)


def prepare(settings: Mapping[str, Any]) -> Plan:
    """The plan for these settings on this host; nothing is changed.

    Raises `UsageError` for settings that make no sense and `CannotRecordError` for what is in the way here.
    """
    interfaces = tuple(settings.get("interface") or ())
    local = bool(settings.get("local"))
    if not interfaces and not local:
        raise UsageError(
            "the tproxy source needs to know whose traffic to take",
            "give --interface NAME (where clients come in, on a gateway) or --local (this host's own connections)",
        )
    spoof = not settings.get("no_spoof")
    check_means()
    ways = _ways(settings.get("filter"))
    versions = _versions(interfaces)
    ruleset = _ruleset()
    _refuse_other_proxies(ruleset)
    if not settings.get("force"):
        _refuse_closed_input(ruleset)
        if local:
            _refuse_own_ssh(settings.get("filter"))
    marks, preferences, tables = _taken(ruleset)
    mark, own_mark = _free_marks(marks, settings.get("mark"))
    limit, descriptors, notes = _capacity(settings)
    if 6 not in versions:
        notes.append("IPv6 is not forwarded here, so it is left alone")
    plan = Plan(
        interfaces=interfaces,
        local=local,
        spoof=spoof,
        versions=versions,
        ways=ways,
        port=_free_port(int(settings.get("port") or 0)),
        mark=mark,
        own_mark=own_mark,
        table=next(number for number in TABLES if number not in tables),
        preference=_free_preference(preferences),
        workers=workers(settings),
        session_limit=limit,
        descriptors=descriptors,
        left_behind=_left_behind(),
        notes=tuple(notes),
    )
    rehearse(plan)
    return plan


def check_means() -> None:
    """Rights and programs; raises `CannotRecordError`."""
    status = Path("/proc/self/status").read_text()
    have = int(re.search(r"^CapEff:\s*(\w+)", status, re.MULTILINE)[1], 16)  # type: ignore[index]
    if not have >> _CAP_NET_ADMIN & 1:
        raise CannotRecordError("the tproxy source needs CAP_NET_ADMIN, which this process lacks", "run it with sudo")
    if shutil.which("ip") is None:
        raise CannotRecordError("the ip command is missing", "install it: apt-get install iproute2")
    try:
        Nftables()
    except NftablesError:
        raise CannotRecordError("nftables is not installed", "install it: apt-get install nftables") from None


def check_host() -> None:
    """Whether any plan can work here; raises `CannotRecordError`."""
    check_means()
    _refuse_other_proxies(_ruleset())
    rehearse(EXAMPLE)


def rehearse(plan: Plan) -> None:
    """Try the plan in a namespace that nobody sees; raises `CannotRecordError` with the kernel's or nft's words."""
    command = [sys.executable, "-m", "recorder.sources.tproxy.rehearsal"]
    done = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, timeout=60)
    if done.returncode:
        words = (done.stdout or done.stderr).strip().splitlines()
        raise CannotRecordError(
            f"this kernel or this nft cannot do it ({words[-1] if words else 'no reason given'})",
            "needed are Linux 5.12, nftables 1.0, and the kernel modules nft_tproxy, nft_socket and nft_fib_inet",
        )


def workers(settings: Mapping[str, Any]) -> int:
    """How many: as said, or one for each core that this process may use."""
    return int(settings.get("workers") or len(os.sched_getaffinity(0)))


def _ways(given: Filter | None) -> tuple[str, ...]:
    if given is None:
        return ("",)
    found = rules(given.expression, text=given.text)
    if not found:
        raise UsageError("no TCP connection can match the filter", "look at it again")
    return tuple(found)


def _versions(interfaces: tuple[str, ...]) -> tuple[int, ...]:
    """The IP versions that are forwarded from these interfaces (all when there are none)."""
    for name in interfaces:
        known = sorted(found for _, found in socket.if_nameindex())
        if name not in known:
            raise UsageError(f"there is no interface {name!r} here", f"there are {', '.join(known)}")
    versions = tuple(version for version in (4, 6) if _has(version) and all(_forwards(version, i) for i in interfaces))
    if not versions:
        raise CannotRecordError(
            f"this host does not forward packets that come in by {', '.join(interfaces)}, so it is no gateway for them",
            "sysctl -w net.ipv4.ip_forward=1",
        )
    for name in interfaces:
        if not any(_ip_json(f"-{version}", "route", "show", "dev", name) for version in versions):
            raise CannotRecordError(
                f"no route leads back through {name}, so the clients behind it would get no answer",
                f"give {name} an address or a route first",
            )
        for conf in ("all", name):
            if _sysctl(f"net/ipv4/conf/{conf}/src_valid_mark") == "1" and _strict_reverse_path(name):
                raise CannotRecordError(
                    f"rp_filter with src_valid_mark would drop marked packets of {name}",
                    f"sysctl -w net.ipv4.conf.{conf}.src_valid_mark=0, or rp_filter=2",
                )
    return versions


def _has(version: int) -> bool:
    return Path("/proc/sys/net", f"ipv{version}", "conf").exists()


def _forwards(version: int, interface: str) -> bool:
    return all(_sysctl(f"net/ipv{version}/conf/{conf}/forwarding") == "1" for conf in ("all", interface))


def _strict_reverse_path(interface: str) -> bool:
    return max(_sysctl(f"net/ipv4/conf/{conf}/rp_filter") for conf in ("all", interface)) == "1"


def _sysctl(path: str) -> str:
    try:
        return Path("/proc/sys", path).read_text().strip()
    except OSError:
        return ""


def _ip_json(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-j", *arguments], capture_output=True, text=True, timeout=30)
    return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []


def own_addresses() -> set[str]:
    """Every address of this host, as text."""
    return {info["local"] for link in _ip_json("address", "show") for info in link.get("addr_info", ())}


def _ruleset() -> list[dict[str, Any]]:
    try:
        listed = Nftables().run("list ruleset")
    except NftablesError as problem:
        raise CannotRecordError(
            f"the nftables rules cannot be read ({problem})", "see what nft list ruleset says"
        ) from None
    return json.loads(listed)["nftables"] if listed.strip() else []


def _refuse_other_proxies(ruleset: list[dict[str, Any]]) -> None:
    for table in (item["table"] for item in ruleset if "table" in item):
        if table["name"] == TABLE:
            raise CannotRecordError("another netrec is proxying here already", "end it first")
    for rule in (item["rule"] for item in ruleset if "rule" in item):
        if any("tproxy" in part or part.get("xt", {}).get("name") == "TPROXY" for part in rule["expr"]):
            where = f"{rule['family']} {rule['table']} {rule['chain']}"
            raise CannotRecordError(
                f"another transparent proxy is at work here (a tproxy rule in {where})",
                "record its log instead (--source haproxy, envoy or squid), or remove its rule",
            )
    for tool in ("iptables-legacy-save", "ip6tables-legacy-save"):
        if shutil.which(tool) and Path("/proc/net/ip_tables_names").exists():
            done = subprocess.run([tool, "-t", "mangle"], capture_output=True, text=True, timeout=30)
            if "-j TPROXY" in done.stdout:
                raise CannotRecordError(
                    "another transparent proxy is at work here (an iptables TPROXY rule)",
                    "record its log instead (--source haproxy, envoy or squid), or remove its rule",
                )


def _refuse_closed_input(ruleset: list[dict[str, Any]]) -> None:
    """Sessions that are proxied come in by the input hook: a policy of drop there would end them."""
    for chain in (item["chain"] for item in ruleset if "chain" in item):
        if chain.get("hook") == "input" and chain.get("policy") == "drop":
            where = f"{chain['family']} {chain['table']} {chain['name']}"
            raise CannotRecordError(
                f"the chain {where} drops what it does not know, and proxied sessions pass it",
                "let marked packets pass there (meta mark, with --mark), then give --force",
            )


def _refuse_own_ssh(given: Filter | None) -> None:
    """Whoever works here over SSH must not be cut off by a filter that takes that session's addresses."""
    words = _ssh_connection().split()
    if len(words) != 4 or words[2].partition("%")[0] not in own_addresses():
        return  # also: a session of another network namespace than the one that is to be proxied
    import pyarrow as pa

    from netrec.filter.evaluate import evaluate
    from netrec.trace import tables

    kind = "ipv6" if ":" in words[0] else "ipv4"
    row = {
        "transport": pa.array(["tcp"]),
        "network_type": pa.array([kind]),
        "client_address": pa.array([words[0]]),
        "client_port": pa.array([int(words[1])], pa.int32()),
        "server_address": pa.array([words[2]]),
        "server_port": pa.array([int(words[3])], pa.int32()),
    }
    if given is None or evaluate(given.expression, tables.batch(tables.FLOWS, row, 1)).any():
        raise CannotRecordError(
            f"the filter would also catch this machine's own SSH session ({words[0]} to port {words[3]})",
            f"leave it out (--filter 'not host {words[0]}'), or give --force",
        )


def _ssh_connection() -> str:
    """SSH_CONNECTION of this process, or of the nearest one that it comes from: sudo takes it away."""
    if found := os.environ.get("SSH_CONNECTION"):
        return found
    pid = os.getppid()
    with contextlib.suppress(OSError, ValueError):
        while pid > 1:
            for variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if variable.startswith(b"SSH_CONNECTION="):
                    return variable.partition(b"=")[2].decode(errors="replace")
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return ""


def _taken(ruleset: list[dict[str, Any]]) -> tuple[int, set[int], set[int]]:
    """Mark bits, rule preferences and routing tables that are in use."""
    marks, preferences, tables = 0, set(), set()
    for version in (4, 6):
        for rule in _ip_json(f"-{version}", "rule", "show"):
            if str(rule.get("protocol")) == str(PROTOCOL):
                continue  # left behind by a netrec that was killed together with its guard: taken over
            preferences.add(int(rule["priority"]))
            for key in ("fwmark", "fwmask"):
                marks |= int(str(rule.get(key, "0")), 0) if key == "fwmark" else 0
            with contextlib.suppress(ValueError):
                tables.add(int(rule.get("table", 0)))
        for route in _ip_json(f"-{version}", "route", "show", "table", "all"):
            with contextlib.suppress(ValueError):
                tables.add(int(route.get("table", 0)))
    for number in _mark_values(ruleset):
        marks |= number
    return marks, preferences, tables


def _left_behind() -> tuple[str, ...]:
    """`ip` commands that remove the rules and routes of a netrec that is no more (its table went with it)."""
    found = []
    for version in (4, 6):
        for rule in _ip_json(f"-{version}", "rule", "show"):
            if str(rule.get("protocol")) == str(PROTOCOL):
                found.append(f"-{version} rule del pref {rule['priority']} protocol {PROTOCOL}")
        for route in _ip_json(f"-{version}", "route", "show", "table", "all", "proto", str(PROTOCOL)):
            found.append(f"-{version} route del local default dev lo table {route['table']}")
    return tuple(found)


def _mark_values(node: Any) -> Iterator[int]:
    """Every number that is compared with or put into a mark, anywhere in the rules."""
    if isinstance(node, dict):
        for operation in ("match", "mangle"):
            part = node.get(operation)
            if part and "mark" in json.dumps(part):
                yield from (int(found) for found in re.findall(r"\b\d+\b", json.dumps(part)) if int(found) < 1 << 32)
        for value in node.values():
            yield from _mark_values(value)
    elif isinstance(node, list):
        for value in node:
            yield from _mark_values(value)


def _free_marks(used: int, wanted: Any) -> tuple[int, int]:
    if wanted:
        if used & int(wanted):
            raise CannotRecordError(
                f"mark {int(wanted):#x} is in use by other rules", "leave --mark away, or give another"
            )
        own = next((1 << bit for bit in MARK_BITS if not used >> bit & 1 and 1 << bit != wanted), 0)
        return int(wanted), own
    free = [1 << bit for bit in MARK_BITS if not used >> bit & 1]
    if len(free) < 2:
        raise CannotRecordError("every mark bit from 16 to 29 is in use by other rules", "free two of them")
    return free[0], free[1]


def _free_preference(used: set[int]) -> int:
    """Before every rule of others (VPNs match whatever is not theirs), after the local table."""
    first = min((number for number in used if number > 0), default=32766)
    return next(number for number in range(min(first - 1, 78), -1, -1) if number not in used or number == 0)


def _free_port(port: int) -> int:
    """The port itself when it is free on both loopbacks; 0: any that is. Raises `CannotRecordError`."""
    taken = port
    for _ in range(20):
        try:
            with contextlib.closing(dial.listener(False, port)) as first:
                first.listen()
                taken = int(first.getsockname()[1])
                if _has(6):
                    with contextlib.closing(dial.listener(True, taken)) as second:
                        second.listen()
                return taken
        except OSError as problem:
            if port:
                raise CannotRecordError(
                    f"port {port} cannot be listened on ({problem.strerror})", "give another --port, or none at all"
                ) from None
    raise CannotRecordError(f"no port is free (tried {taken})", "give one with --port")


def _capacity(settings: Mapping[str, Any]) -> tuple[int, int, list[str]]:
    """Sessions at once in each worker, the descriptors that this takes, and what to say about it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    other = OTHER_DESCRIPTORS + 2 * PIPES
    wanted, share = int(settings.get("max_sessions") or 10000), workers(settings)
    possible = (hard - other) // 2 if hard != resource.RLIM_INFINITY else wanted
    # The kernel spreads sessions over the workers by chance: each may get more than its share.
    limit = max(1, min(wanted, possible))
    notes = []
    if possible * share < wanted:
        notes.append(
            f"{wanted} sessions at once need {2 * wanted // share + other} descriptors in each worker, and the hard "
            f"limit is {hard} (ulimit -Hn): with {possible * share} open, further ones pass by the proxy"
        )
    return limit, 2 * limit + other, notes
