"""Which source suits this host: facts about it, and the decision that follows from them.

A gateway's forwarded sessions have no socket on it, so that only a proxy can see them; where a proxy runs already, its
log has them without touching traffic; everywhere else the kernel's own sockets say the most and cost the least.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder.source import Readiness

# Proxies whose logs a source reads, with the files that their Debian packages (Envoy: its examples) log to.
LOGS = {
    "haproxy": ("/var/log/haproxy.log",),
    "envoy": ("/var/log/envoy/access.log", "/var/log/envoy/access_log.txt"),
    "squid": ("/var/log/squid/access.log",),
}
# A program's name may be followed by its role or a thread's: `squid`, `squid-1`, `(squid-1)`.
_NAME = re.compile(rf"^\(?({'|'.join(LOGS)})\b")
_ACCESS = re.compile(r"access[^/]*$")


@dataclass(frozen=True)
class Facts:
    """What the decision rests on.

    `ready` is what each source says of itself (BTF, bcc, capabilities, nftables, other proxies' rules). `forwards`:
    the kernel may pass packets on (IPv4 or IPv6); `forwarded`: how many it has, in this network namespace. `inside` and
    `outside` are the links that lead off this host, by whether the default route leaves through them. `logs` are
    (proxy, its log file) of the proxies that run here.
    """

    ready: Mapping[str, Readiness]
    forwards: bool = False
    forwarded: int = 0
    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    logs: tuple[tuple[str, str], ...] = ()

    @property
    def gateway(self) -> bool:
        """Others' packets pass through here: allowed, with two links to pass between, and seen to happen."""
        return self.forwards and self.forwarded > 0 and len(self.inside + self.outside) > 1


@dataclass(frozen=True)
class Recommendation:
    """A source, the reason as a clause that follows "because", and the command that starts it.

    `first` is what has to be done before the command works, "" when nothing has.
    """

    source: str
    reason: str
    command: str
    first: str = ""

    @property
    def sentence(self) -> str:
        first = f", once this is mended ({self.first})" if self.first else ""
        return f"{self.source}, because {self.reason}{first}: {self.command}"


def recommend(facts: Facts) -> Recommendation:
    """The source for a host of which this is known; always one, if need be with what has to be mended first."""
    ebpf, tproxy = facts.ready["ebpf"], facts.ready["tproxy"]
    if facts.gateway:
        # One side is enough; where nothing tells them apart, the first link is as good a guess as any.
        clients = (facts.inside or facts.outside)[0]
        between = ", ".join(facts.inside + facts.outside)
        why = (
            f"this host is a gateway ({facts.forwarded:,} packets forwarded between {between}), "
            "and forwarded sessions have no socket here that eBPF could see"
        )
        if tproxy.ready:
            return Recommendation("tproxy", why, f"sudo netrec record --source tproxy --interface {clients} -o trace")
        if facts.logs:
            return _log(facts.logs[0], f"{why}, netrec's own proxy cannot run ({tproxy.reason}) but")
        return Recommendation(
            "tproxy", why, f"sudo netrec record --source tproxy --interface {clients} -o trace", _mend(tproxy)
        )
    if facts.logs:
        return _log(facts.logs[0], "")
    why = "this host is no gateway, and eBPF sees every connection of it with its owner, without touching traffic"
    if not ebpf.ready and tproxy.ready:
        why = f"eBPF cannot run here ({ebpf.reason}), and the proxy sees the connections that this host opens"
        return Recommendation("tproxy", why, "sudo netrec record --source tproxy --local -o trace")
    return Recommendation("ebpf", why, "sudo netrec record --source ebpf -o trace", _mend(ebpf))


def _log(log: tuple[str, str], before: str) -> Recommendation:
    name, path = log
    reason = (
        f"{before} {name} runs here and logs every session that passes it, so that nothing has to be put in its way"
    )
    return Recommendation(name, reason.strip(), f"netrec record --source {name} --log {path} -o trace")


def _mend(readiness: Readiness) -> str:
    return "" if readiness.ready else "; ".join(part for part in (readiness.reason, readiness.fix) if part)


def facts(ready: Mapping[str, Readiness]) -> Facts:
    """Read this host, in this process's network namespace; what cannot be read counts as not there. Never raises."""
    links = tuple(_links(_ip("-d", "address", "show")))
    routes = _ip("-4", "route", "show", "default") + _ip("-6", "route", "show", "default")
    outside = {str(route.get("dev")) for route in routes}
    return Facts(
        ready=ready,
        forwards=any(
            _read(f"/proc/sys/net/{version}").strip() == "1"
            for version in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
        ),
        forwarded=_forwarded(_read("/proc/net/snmp"), _read("/proc/net/snmp6")),
        inside=tuple(name for name in links if name not in outside),
        outside=tuple(name for name in links if name in outside),
        logs=tuple(_logs()),
    )


def _links(shown: list[dict[str, Any]]) -> Iterator[str]:
    """Links that lead off this host: up, with an address of their own, and no bridge to containers."""
    ports: dict[str, list[str]] = {}
    for link in shown:
        ports.setdefault(link.get("master", ""), []).append(_kind(link))
    for link in shown:
        flags, name = link.get("flags", ()), link["ifname"]
        addresses = [one for one in link.get("addr_info", ()) if one.get("scope") == "global"]
        if "LOOPBACK" in flags or "UP" not in flags or not addresses:
            continue
        # eBPF sees the sockets of containers, whose packets are forwarded too: what counts leaves this kernel.
        if _kind(link) == "bridge" and all(kind == "veth" for kind in ports.get(name, ())):
            continue
        yield name


def _kind(link: Mapping[str, Any]) -> str:
    return str(link.get("linkinfo", {}).get("info_kind", ""))


def _forwarded(snmp: str, snmp6: str) -> int:
    """Packets passed on so far: ForwDatagrams of IPv4 (RFC 4293, one line of names, one of values) and of IPv6."""
    total = 0
    lines = [line.split() for line in snmp.splitlines() if line.startswith("Ip:")]
    if len(lines) == 2:
        total += int(dict(zip(*lines, strict=False)).get("ForwDatagrams", 0))
    found = re.search(r"^Ip6OutForwDatagrams\s+(\d+)", snmp6, re.MULTILINE)
    return total + int(found[1] if found else 0)


def _logs() -> Iterator[tuple[str, str]]:
    """Proxies that run in this network namespace, each with the log that it has open or else its usual one."""
    here, found = _link("/proc/self/ns/net"), set()
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        named = _NAME.match(_read(f"{folder}/comm"))
        if named is None or named[1] in found or _link(f"{folder}/ns/net") != here:
            continue
        log = next(_log_files(folder, named[1]), None)
        if log is not None:
            found.add(named[1])
            yield named[1], log


def _log_files(process: Path, name: str) -> Iterator[str]:
    try:
        opened = sorted({_link(str(descriptor)) for descriptor in (process / "fd").iterdir()})
    except OSError:
        opened = []
    yield from (path for path in opened if _ACCESS.search(path) and Path(path).is_file())
    yield from (path for path in LOGS[name] if Path(path).is_file())


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _ip(*arguments: str) -> list[dict[str, Any]]:
    try:
        done = subprocess.run(["ip", "-j", *arguments], capture_output=True, text=True, timeout=30)
        return json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else []
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []
