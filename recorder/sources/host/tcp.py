"""TCP sockets by state, listen queues, and the ephemeral ports towards the busiest destinations."""

from __future__ import annotations

import socket

import numpy as np

from recorder.sources.host.gauge import Gauge, number, text

# include/net/tcp_states.h; a socket that still waits for the last step of its handshake counts as syn_received.
STATES = {
    1: "established",
    2: "syn_sent",
    3: "syn_received",
    4: "fin_wait_1",
    5: "fin_wait_2",
    6: "time_wait",
    7: "close",
    8: "close_wait",
    9: "last_ack",
    10: "listen",
    11: "closing",
}
_LISTEN = 10
BUSIEST = 5
# Odd multipliers, fixed: the same sockets always hash alike.
_MULTIPLIERS = np.random.default_rng(20).integers(0, 2**63, 9, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def socket_gauges(sockets: np.ndarray) -> list[Gauge]:
    """Gauges of all sockets of the calling thread's network namespace (records of `socket_diagnostics.SOCKETS`)."""
    return [*states(sockets), *listen_queues(sockets), *ephemeral_ports(sockets)]


def states(sockets: np.ndarray) -> list[Gauge]:
    """How many sockets are in each state; time_wait has a limit (tcp_max_tw_buckets)."""
    counts = np.bincount(np.where(sockets["state"] == 12, 3, sockets["state"]), minlength=12)
    limits = {"time_wait": number("/proc/sys/net/ipv4/tcp_max_tw_buckets")}
    return [Gauge(f"sockets:{name}", int(counts[code]), limits.get(name), "socket") for code, name in STATES.items()]


def listen_queues(sockets: np.ndarray) -> list[Gauge]:
    """Connections that wait for accept; of the sockets of one address and port (SO_REUSEPORT) the fullest queue."""
    fullest: dict[str, tuple[int, int]] = {}
    for row in sockets[sockets["state"] == _LISTEN]:
        name = f"listen_queue:{place(row['family'], row['local_address'], row['local_port'])}"
        queue = int(row["receive_queue"]), int(row["send_queue"])
        if name not in fullest or _share(queue) > _share(fullest[name]):
            fullest[name] = queue
    return [Gauge(name, used, limit, "connection") for name, (used, limit) in sorted(fullest.items())]


def _share(queue: tuple[int, int]) -> float:
    return queue[0] / max(queue[1], 1)


def ephemeral_ports(sockets: np.ndarray) -> list[Gauge]:
    """Local ports in use towards one destination, against all that may be chosen.

    The kernel can use a local port again for another destination: what runs out is the ports of one (local address,
    remote address, remote port). `ephemeral_ports` is the busiest, and the five busiest have a row of their own.
    """
    low, high, available = port_range()
    ports = sockets["local_port"]
    chosen = sockets[(ports >= low) & (ports <= high) & (sockets["state"] != _LISTEN)]
    words = np.concatenate(
        [chosen["local_address"], chosen["remote_address"], chosen["remote_port"].astype("u4")[:, None]], axis=1
    )
    keys = (words.astype(np.uint64) * _MULTIPLIERS).sum(axis=1, dtype=np.uint64)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    gauges = [Gauge("ephemeral_ports", int(counts.max(initial=0)), available, "port")]
    for index in np.argsort(-counts, kind="stable")[:BUSIEST]:
        row = chosen[first[index]]
        local = address(row["family"], row["local_address"])
        remote = place(row["family"], row["remote_address"], row["remote_port"])
        gauges.append(Gauge(f"ephemeral_ports:{local}->{remote}", int(counts[index]), available, "port"))
    return gauges


def port_range() -> tuple[int, int, int]:
    """The first and last ephemeral port, and how many of them are not reserved."""
    words = text("/proc/sys/net/ipv4/ip_local_port_range").split()
    low, high = (int(words[0]), int(words[1])) if len(words) == 2 else (32768, 60999)
    reserved = 0
    for part in text("/proc/sys/net/ipv4/ip_local_reserved_ports").strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            reserved += max(0, min(high, int(last or first)) - max(low, int(first)) + 1)
    return low, high, high - low + 1 - reserved


def address(family: int, words: np.ndarray) -> str:
    """An address of SOCKETS as canonical text; `*` for any."""
    if not words[: 1 if family == socket.AF_INET else 4].any():
        return "*"
    size = 4 if family == socket.AF_INET else 16
    return socket.inet_ntop(int(family), words.tobytes()[:size])


def place(family: int, words: np.ndarray, port: int) -> str:
    """`*:443`, `10.0.0.1:443`, `[fd00::1]:443`."""
    shown = address(family, words)
    return f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
