"""What the programs at the sockets cost a packet, in the kernel: a program is run many times on one packet.

The kernel itself runs them (BPF_PROG_TEST_RUN), so that nothing but the program is measured; what the same run of a
program that does nothing takes is subtracted. Real packets find colder caches: the paired loads of `datagrams` and
`churn_slowdown` say what a whole workload pays.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import replace

from benchmarks.harness import Options, Report, median, spread
from recorder.bpf import objects
from recorder.bpf.compiler import CGROUP_INGRESS, Build
from recorder.sources.ebpf.programs import request

_PROG_TEST_RUN = 10
RUNS, ROUNDS = 50_000, 21
NOTHING = "int nothing(struct __sk_buff *skb) { return 1; }"
_TCP, _UDP = 6, 17
PROGRAMS = {
    "--protocols udp": ("datagram_sent", "datagram_received"),
    "--dns": ("dns_sent", "dns_received"),
}


def packet(protocol: int, version: int, port: int = 443, payload: int = 200) -> bytes:
    """An Ethernet frame from port 40000 to `port`, with so many bytes of payload."""
    if protocol == _UDP:
        transport = struct.pack("!HHHH", 40000, port, 8 + payload, 0)
    else:
        transport = struct.pack("!HHIIBBHHH", 40000, port, 1, 1, 5 << 4, 16, 1000, 0, 0)
    content = transport + bytes(payload)
    if version == 4:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0, 64, protocol, 0)
        return bytes(12) + b"\x08\0" + header + bytes([10, 0, 0, 1, 10, 0, 0, 2]) + content
    header = struct.pack("!IHBB", 6 << 28, len(content), protocol, 64)
    return bytes(12) + b"\x86\xdd" + header + bytes(15) + b"\1" + bytes(15) + b"\2" + content


def run_program(program: int, frame: bytes, times: int) -> int:
    """Nanoseconds a run, as the kernel measured them."""
    data = ctypes.create_string_buffer(frame, len(frame))
    # struct { prog_fd, retval, data_size_in, data_size_out, data_in, data_out, repeat, duration, ... }
    attributes = ctypes.create_string_buffer(
        struct.pack("<IIIIQQII", program, 0, len(frame), 0, ctypes.addressof(data), 0, times, 0), 128
    )
    objects.bpf(_PROG_TEST_RUN, attributes)
    return int(struct.unpack_from("<I", attributes, 36)[0])


def run(options: Options) -> Report:
    report = Report(["packet", "option", "nanoseconds of the program", "lowest..highest", "unit"])
    built = request({"protocols": ("tcp", "udp", "icmp"), "dns": True})
    built = replace(built, text=f"{built.text}\n{NOTHING}\n", functions={**built.functions, "nothing": CGROUP_INGRESS})
    loaded = Build(built).finish()
    try:
        for version in (4, 6):
            for name, protocol in (("TCP", _TCP), ("UDP", _UDP)):
                frame = packet(protocol, version)
                for option, programs in PROGRAMS.items():
                    for program in programs:
                        costs = [
                            run_program(loaded.functions[program], frame, options.size(RUNS, 1000))
                            - run_program(loaded.functions["nothing"], frame, options.size(RUNS, 1000))
                            for _ in range(options.size(ROUNDS, 1))
                        ]
                        way = program.rpartition("_")[2]
                        report.rows.append(
                            [f"{name} over IPv{version}, {way}", option, median(costs), spread(costs), "ns"]
                        )
    finally:
        loaded.close()
    return report
