"""What /proc counts and limits: protocol counters, memory, connection tracking, descriptors, softnet, CPU."""

from __future__ import annotations

import os
import resource

from recorder.sources.host.gauge import Gauge, Increases, number, text

# name of the gauge -> (section, counter) of /proc/net/snmp and /proc/net/netstat, and the unit
_TCP = {
    "tcp_active_opens": ("Tcp", "ActiveOpens", "connection"),
    "tcp_passive_opens": ("Tcp", "PassiveOpens", "connection"),
    "tcp_failed_opens": ("Tcp", "AttemptFails", "connection"),
    "tcp_segments_sent": ("Tcp", "OutSegs", "segment"),
    "tcp_segments_received": ("Tcp", "InSegs", "segment"),
    "tcp_retransmitted_segments": ("Tcp", "RetransSegs", "segment"),
    "tcp_resets_sent": ("Tcp", "OutRsts", "segment"),
    "tcp_established_resets": ("Tcp", "EstabResets", "connection"),
    "tcp_receive_errors": ("Tcp", "InErrs", "segment"),
    "tcp_listen_overflows": ("TcpExt", "ListenOverflows", "connection"),
    "tcp_listen_drops": ("TcpExt", "ListenDrops", "connection"),
    "tcp_timeouts": ("TcpExt", "TCPTimeouts", "event"),
    "tcp_lost_retransmits": ("TcpExt", "TCPLostRetransmit", "segment"),
    "tcp_syn_retransmits": ("TcpExt", "TCPSynRetrans", "segment"),
    "tcp_spurious_timeouts": ("TcpExt", "TCPSpuriousRTOs", "event"),
    "tcp_request_queue_drops": ("TcpExt", "TCPReqQFullDrop", "connection"),
    "tcp_syn_cookies_sent": ("TcpExt", "SyncookiesSent", "segment"),
    "tcp_backlog_drops": ("TcpExt", "TCPBacklogDrop", "segment"),
    "tcp_receive_queue_drops": ("TcpExt", "TCPRcvQDrop", "segment"),
    "tcp_aborts_on_memory": ("TcpExt", "TCPAbortOnMemory", "connection"),
    "tcp_aborts_on_timeout": ("TcpExt", "TCPAbortOnTimeout", "connection"),
    "tcp_memory_pressures": ("TcpExt", "TCPMemoryPressures", "event"),
    "tcp_time_wait_overflows": ("TcpExt", "TCPTimeWaitOverflow", "connection"),
    "tcp_zero_windows_sent": ("TcpExt", "TCPToZeroWindowAdv", "event"),
}
_UDP = {
    "udp_receive_buffer_errors": "RcvbufErrors",
    "udp_send_buffer_errors": "SndbufErrors",
    "udp_memory_errors": "MemErrors",
    "udp_receive_errors": "InErrors",
    "udp_no_port": "NoPorts",
}


def protocol_counters(increases: Increases) -> list[Gauge]:
    """TCP's extended counters and UDP's errors (IPv4 and IPv6 together) of the calling thread's network namespace."""
    sections = {
        **two_line_sections(text("/proc/thread-self/net/snmp")),
        **two_line_sections(text("/proc/thread-self/net/netstat")),
    }
    ipv6 = dict(line.split() for line in text("/proc/thread-self/net/snmp6").splitlines() if len(line.split()) == 2)
    gauges = []
    for name, (section, counter, unit) in _TCP.items():
        value = sections.get(section, {}).get(counter)
        if value is not None and (grown := increases.of(name, value)) is not None:
            gauges.append(Gauge(name, grown, None, unit))
    for name, counter in _UDP.items():
        value = sections.get("Udp", {}).get(counter, 0) + int(ipv6.get(f"Udp6{counter}", 0))
        if (grown := increases.of(name, value)) is not None:
            gauges.append(Gauge(name, grown, None, "datagram"))
    return gauges


def two_line_sections(content: str) -> dict[str, dict[str, int]]:
    """/proc/net/snmp and netstat: a line of names and a line of values for each section."""
    lines = content.splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        section, _, words = names.partition(":")
        found[section] = dict(zip(words.split(), map(int, values.partition(":")[2].split()), strict=False))
    return found


def socket_counts() -> list[Gauge]:
    """Sockets of a network namespace that TCP's states do not tell: orphans, UDP, raw."""
    counts = sockstat()
    gauges = []
    for name, key, limit in (
        ("sockets:orphan", ("TCP", "orphan"), number("/proc/sys/net/ipv4/tcp_max_orphans")),
        ("sockets:udp", ("UDP", "inuse"), None),
        ("sockets:raw", ("RAW", "inuse"), None),
    ):
        used = counts.get(key)
        if used is not None:
            also = counts.get((f"{key[0]}6", key[1]), 0)
            gauges.append(Gauge(name, used + also, limit, "socket"))
    return gauges


def sockstat() -> dict[tuple[str, str], int]:
    """(section, name) -> value of /proc/net/sockstat and sockstat6."""
    found = {}
    for line in (text("/proc/thread-self/net/sockstat") + text("/proc/thread-self/net/sockstat6")).splitlines():
        section, _, rest = line.partition(":")
        words = rest.split()
        found.update({(section, name): int(value) for name, value in zip(words[::2], words[1::2], strict=False)})
    return found


def conntrack(increases: Increases) -> list[Gauge]:
    """Entries of the connection tracking table against its size, and what it dropped; nothing where there is none."""
    used, limit = (number(f"/proc/sys/net/netfilter/nf_conntrack_{name}") for name in ("count", "max"))
    if used is None:
        return []
    gauges = [Gauge("conntrack", used, limit or None, "entry")]
    lines = [line.split() for line in text("/proc/thread-self/net/stat/nf_conntrack").splitlines()]
    if lines:
        for name in ("drop", "early_drop", "insert_failed"):
            column = lines[0].index(name) if name in lines[0] else None
            if column is not None:
                total = sum(int(line[column], 16) for line in lines[1:])
                if (grown := increases.of(f"conntrack_{name}", total)) is not None:
                    gauges.append(Gauge(f"conntrack_{name}", grown, None, "packet"))
    return gauges


def host_wide(increases: Increases, seconds: float) -> list[Gauge]:
    """What the host has once, whatever its namespaces: memory of TCP and UDP, descriptors, softnet, CPU."""
    return [*protocol_memory(), *descriptors(), *softnet(increases), *cpu(increases, seconds)]


def protocol_memory() -> list[Gauge]:
    """Bytes that TCP and UDP hold for their buffers, against the hard limit (third number of tcp_mem and udp_mem)."""
    counts, page = sockstat(), resource.getpagesize()
    gauges = []
    for protocol in ("tcp", "udp"):
        used = counts.get((protocol.upper(), "mem"))
        limits = text(f"/proc/sys/net/ipv4/{protocol}_mem").split()
        if used is not None:
            limit = int(limits[2]) * page if len(limits) == 3 else None
            gauges.append(Gauge(f"{protocol}_memory", used * page, limit, "byte"))
    return gauges


def descriptors() -> list[Gauge]:
    """Open files of the whole host; a limit that can never be reached is none."""
    words = text("/proc/sys/fs/file-nr").split()
    if len(words) != 3:
        return []
    limit = int(words[2])
    return [Gauge("file_descriptors", int(words[0]), limit if limit < 2**53 else None, "descriptor")]


def softnet(increases: Increases) -> list[Gauge]:
    """Packets that a full backlog dropped, and polls that ended with work left, of all CPUs."""
    lines = [line.split() for line in text("/proc/net/softnet_stat").splitlines()]
    gauges = []
    for name, column, unit in (("softnet_drops", 1, "packet"), ("softnet_squeezes", 2, "event")):
        grown = increases.of(name, sum(int(line[column], 16) for line in lines))
        if lines and grown is not None:
            gauges.append(Gauge(name, grown, None, unit))
    return gauges


def cpu(increases: Increases, seconds: float) -> list[Gauge]:
    """CPUs busy (all work, softirq alone, stolen by the hypervisor), and the softirq share of the busiest CPU."""
    ticks = os.sysconf("SC_CLK_TCK")
    busy = {"cpu": 0, "cpu_softirq": 0, "cpu_steal": 0}
    busiest = count = 0
    whole = False
    for line in text("/proc/stat").splitlines():
        name, *words = line.split()
        if not name.startswith("cpu") or name == "cpu":
            continue
        count += 1
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in words[:8])
        for key, value in (
            ("cpu", user + nice + system + irq + softirq + steal),
            ("cpu_softirq", softirq),
            ("cpu_steal", steal),
        ):
            grown = increases.of(f"{key}:{name}", value)
            whole = whole or grown is not None
            busy[key] += grown or 0
            if key == "cpu_softirq":
                busiest = max(busiest, grown or 0)
    if not whole or seconds <= 0:
        return []
    gauges = [Gauge(key, value / ticks / seconds, count, "cpu") for key, value in busy.items()]
    return [*gauges, Gauge("cpu_softirq_busiest", busiest / ticks / seconds, 1, "cpu")]
