"""Network devices: bytes per second against the speed of the link, packets, drops and errors, per direction."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

from recorder.sources.host.gauge import Gauge, Increases, text

_SIOCETHTOOL = 0x8946
_ETHTOOL_GSET = 1
_UNKNOWN_SPEEDS = (0, 0xFFFF, 0xFFFFFFFF)
# Columns of /proc/net/dev: direction -> (bytes, packets, errors, drops)
_COLUMNS = {"rx": (0, 1, 2, 3), "tx": (8, 9, 10, 11)}


def links(increases: Increases, seconds: float) -> list[Gauge]:
    """The devices of the calling thread's network namespace; `seconds` since the last reading."""
    gauges = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        for device, counters in devices(text("/proc/thread-self/net/dev")).items():
            speed = link_speed(control, device)
            for direction, columns in _COLUMNS.items():
                names = ("link", "link_packets", "link_errors", "link_drops")
                grown = [
                    increases.of(f"{name}:{device}:{direction}", counters[column])
                    for name, column in zip(names, columns, strict=True)
                ]
                size, packets, errors, drops = grown
                if size is None or packets is None or errors is None or drops is None or seconds <= 0:
                    continue
                where = f"{device}:{direction}"
                gauges += [
                    Gauge(f"link:{where}", size / seconds, speed, "byte/s"),
                    Gauge(f"link_packets:{where}", packets / seconds, None, "packet/s"),
                    Gauge(f"link_errors:{where}", errors, None, "packet"),
                    Gauge(f"link_drops:{where}", drops, None, "packet"),
                ]
    return gauges


def devices(content: str) -> dict[str, list[int]]:
    """Device -> the 16 counters of its line in /proc/net/dev."""
    found = {}
    for line in content.splitlines()[2:]:
        name, _, counters = line.rpartition(":")
        found[name.strip()] = [int(word) for word in counters.split()]
    return found


def link_speed(control: socket.socket, device: str) -> float | None:
    """Bytes per second that the link can carry in one direction; None when the device does not say.

    What /sys/class/net/<device>/speed shows, but of the thread's namespace: sysfs shows that of its mount.
    """
    memory = array.array("B", struct.pack("I", _ETHTOOL_GSET).ljust(44, b"\0"))  # struct ethtool_cmd
    request = struct.pack("16sP", device.encode(errors="surrogateescape")[:15], memory.buffer_info()[0])
    try:
        fcntl.ioctl(control, _SIOCETHTOOL, request.ljust(40, b"\0"))
    except OSError:
        return None
    low, high = struct.unpack_from("H", memory, 12)[0], struct.unpack_from("H", memory, 28)[0]
    megabits = high << 16 | low
    return None if megabits in _UNKNOWN_SPEEDS else megabits * 1e6 / 8
