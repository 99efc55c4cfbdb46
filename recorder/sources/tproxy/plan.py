"""What the proxy puts in place, as text: one nftables table, one routing rule and one route for each IP version.

    client -- SYN --> prerouting: chosen?  -- tproxy + mark --> rule: marked -> table: everything is local -> worker
    packets of a session that a worker has -- socket transparent + mark --> the same way

Only a packet that opens a connection is ever chosen: what was there before the proxy came passes it by, and so does
everything once the `choose` chain is empty. A program of this host (`local`) is chosen in the output hook, and
its packets are known by a bit of the connection's mark; the proxy's own dials carry a mark that leaves them out.
The table has the `owner` flag: the kernel removes it when the process that made it (the guard) has gone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

TABLE = "netrec_tproxy"
# Of the routing rules and routes (RTPROT): what a killed netrec left behind is recognised by it.
PROTOCOL = 78
LOOPBACK = {4: "127.0.0.1", 6: "[::1]"}
_OPENING = "tcp flags & (fin | syn | rst | ack) == syn"


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before anything is changed.

    `versions`: IP versions, of 4 and 6. `ways`: the filter as nft matches, one rule each (an empty match: everything).
    `mark` and `own_mark` are single bits; `table` and `preference` those of the routing rule. `left_behind`: `ip`
    commands that take away the rules of a netrec that was killed together with its guard.
    """

    interfaces: tuple[str, ...]
    local: bool
    spoof: bool
    versions: tuple[int, ...]
    ways: tuple[str, ...]
    port: int
    mark: int
    own_mark: int
    table: int
    preference: int
    workers: int = 1
    session_limit: int = 0
    descriptors: int = 0
    left_behind: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def _marked(self) -> str:
        return f"meta mark set meta mark or {self.mark:#x}"

    def install(self) -> str:
        """nft commands that make the table, with nothing chosen yet."""
        keep = f"meta l4proto tcp socket transparent 1 {self._marked} accept"
        chains = [
            "    counter taken { }",
            "    counter passed { }",
            "    chain take {",
            *(f"        {rule}" for rule in self._take()),
            "    }",
            "    chain choose { }",
            "    chain prerouting {",
            "        type filter hook prerouting priority mangle; policy accept;",
            f"        {keep}",
        ]
        if self.local:
            chains += [f'        iifname "lo" meta mark & {self.mark:#x} == {self.mark:#x} {_OPENING} goto take']
        chains += ["        goto choose", "    }"]
        if self.local:
            chains += [
                "    chain choose_local { }",
                "    chain output {",
                "        type route hook output priority mangle; policy accept;",
                f"        meta mark & {self.own_mark:#x} == {self.own_mark:#x} return",
                f"        ct direction original ct mark & {self.mark:#x} == {self.mark:#x} {self._marked} return",
                "        goto choose_local",
                "    }",
            ]
        return "\n".join([f"table inet {TABLE} {{", "    flags owner", *chains, "}", ""])

    def _take(self) -> list[str]:
        to = {4: ("ipv4", "ip", LOOPBACK[4]), 6: ("ipv6", "ip6", LOOPBACK[6])}
        return [
            f"meta nfproto {family} meta l4proto tcp counter name taken "
            f"tproxy {kind} to {address}:{self.port} {self._marked} accept"
            for family, kind, address in (to[version] for version in self.versions)
        ]

    def activate(self) -> str:
        """nft commands that choose new sessions."""
        return self.deactivate() + self._choose("goto take", f"ct mark set ct mark or {self.mark:#x} {self._marked}")

    def bypass(self) -> str:
        """nft commands that count new sessions and let them pass by."""
        return self.deactivate() + self._choose("counter name passed", "counter name passed")

    def _choose(self, forwarded: str, local: str) -> str:
        lines = []
        if self.interfaces:
            devices = "{ " + ", ".join(f'"{name}"' for name in self.interfaces) + " }"
            # This host's own services are reached as ever.
            lines.append(f"choose iifname {devices} fib daddr type local return")
            for way in self.ways:
                lines.append(f"choose iifname {devices} {_join(_OPENING, way)} {forwarded}")
        if self.local:
            lines.append("choose_local fib daddr type local return")
            if len(self.versions) == 1:
                other = "ipv6" if self.versions == (4,) else "ipv4"
                lines.append(f"choose_local meta nfproto {other} return")
            for way in self.ways:
                lines.append(f"choose_local {_join(_OPENING, way)} {local}")
        return "".join(f"add rule inet {TABLE} {line}\n" for line in lines)

    def deactivate(self) -> str:
        """nft commands that choose no more; sessions that the proxy has go on."""
        chains = ["choose"] + (["choose_local"] if self.local else [])
        return "".join(f"flush chain inet {TABLE} {chain}\n" for chain in chains)

    def remove(self) -> str:
        """nft commands that take the table away."""
        return f"delete table inet {TABLE}\n"

    def routes(self) -> list[str]:
        """`ip` commands (without `ip`) that send what is marked to the proxy."""
        made: list[str] = []
        for version in self.versions:
            made.append(f"-{version} route add local default dev lo table {self.table} proto {PROTOCOL}")
            made.append(f"-{version} rule add {self._rule()}")
        return made

    def unroute(self) -> list[str]:
        """`ip` commands that take away what `routes` made, the rule first."""
        made: list[str] = []
        for version in self.versions:
            made.append(f"-{version} rule del {self._rule()}")
            made.append(f"-{version} route del local default dev lo table {self.table}")
        return made

    def _rule(self) -> str:
        return f"fwmark {self.mark:#x}/{self.mark:#x} lookup {self.table} pref {self.preference} protocol {PROTOCOL}"

    def text(self) -> str:
        """The plan as `--dry-run` prints it: what would be run, in order, and how it is undone."""
        lines = ["# nftables: this table, which the kernel removes with the process that made it", self.install()]
        lines += ["# routing: what is marked is delivered to the proxy"]
        lines += [f"ip {command}" for command in (*self.left_behind, *self.routes())]
        lines += ["", "# from then on new sessions are chosen", self.activate()]
        addresses = " and ".join(LOOPBACK[version] for version in self.versions)
        lines += [
            f"# {self.workers} workers listen on {addresses} port {self.port}; each takes up to "
            f"{self.session_limit} sessions at once with {self.descriptors} descriptors"
        ]
        lines += [f"# {note}" for note in self.notes]
        lines += ["# afterwards, or when the proxy is killed or hangs, all of it is taken away:"]
        lines += [f"#   nft {self.remove().strip()}"]
        lines += [f"#   ip {command}" for command in self.unroute()]
        return "\n".join(lines)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def run_ip(commands: Iterable[str]) -> None:
    """Run `ip` commands as `routes` gives them, each IP version's in one process; every one is tried.

    Raises `OSError` with the first complaint.
    """
    complaints = ""
    for version, lines in groupby(sorted(commands, key=lambda command: command[:2]), key=lambda command: command[:2]):
        done = subprocess.run(
            ["ip", version, "-force", "-batch", "-"],
            input="".join(line[3:] + "\n" for line in lines),
            capture_output=True,
            text=True,
        )
        complaints += done.stderr if done.returncode else ""
    if complaints:
        raise OSError(f"ip: {complaints.splitlines()[0]}")


def from_json(given: dict[str, object]) -> Plan:
    """The plan that `dataclasses.asdict` turned into JSON."""
    return Plan(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})  # type: ignore[arg-type]
