"""Filters as eBPF programs: every one passes the verifier, and decides in the kernel as the reference says."""

from __future__ import annotations

import ctypes
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netrec.filter import parse
from netrec.filter.bpf import MAXIMUM_TERMS, STRUCT, CompiledFilter, compile_filter
from netrec.filter.evaluate import evaluate
from recorder.bpf import objects, syscalls
from recorder.bpf.compiler import CGROUP_INGRESS, Build, Loaded, Request
from tests.filter.test_filter_bpf import as_struct
from tests.support.filter_flows import IPV4, IPV6, filters, flow, flows

pytestmark = pytest.mark.kernel
_TEST_RUN = 10  # BPF_PROG_TEST_RUN


def load(compiled: list[CompiledFilter]) -> Loaded:
    """One program for each filter, which tells what it decides of the flow in the map; all pass the verifier."""
    text = STRUCT + "BPF_ARRAY(given, struct netrec_filter_flow, 1);\n"
    for index, one in enumerate(compiled):
        text += one.function(f"filter_{index}")
        text += f"""
int match_{index}(struct __sk_buff *packet) {{
    int place = 0;
    struct netrec_filter_flow *flow = given.lookup(&place);
    return flow && filter_{index}(flow);
}}
"""
    names = {f"match_{index}": CGROUP_INGRESS for index in range(len(compiled))}
    return Build(Request(text=text, defines={}, functions=names, maps=["given"])).finish()


def decide(program: int) -> bool:
    packet = np.zeros(64, np.uint8)
    attributes = struct.pack("<IIIIQQII", program, 0, len(packet), 0, packet.ctypes.data, 0, 1, 0)
    buffer = ctypes.create_string_buffer(attributes, 128)
    objects.bpf(_TEST_RUN, buffer)
    return bool(struct.unpack_from("<I", buffer, 4)[0])


def check(texts: list[str], rows: list[dict[str, Any]]) -> None:
    compiled = [compile_filter(parse(text)) for text in texts]
    loaded = load(compiled)
    try:
        for index, (text, one) in enumerate(zip(texts, compiled, strict=True)):
            wanted = evaluate(parse(text), flows(rows)).tolist()
            for row, expected in zip(rows, wanted, strict=True):
                value = np.frombuffer(bytes(as_struct(row, one)), np.uint8)
                syscalls.update(loaded.maps["given"], np.zeros(1, np.uint32), value)
                assert decide(loaded.functions[f"match_{index}"]) == expected, (text, row)
    finally:
        loaded.close()


def test_the_kernel_decides_as_the_reference() -> None:
    generate = settings(
        max_examples=2, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )

    @generate
    @given(st.lists(filters(), min_size=20, max_size=20), st.lists(flow(), min_size=30, max_size=30))
    def some(texts: list[str], rows: list[dict[str, Any]]) -> None:
        check(texts, rows)

    some()


def test_the_largest_filters_pass_the_verifier() -> None:
    chance = random.Random(3)
    hosts = " or ".join(f"host {address}" for address in (IPV6 * 10)[: MAXIMUM_TERMS - 1])
    ports = " or ".join(f"portrange {port}-{port + 9}" for port in range(0, 10 * MAXIMUM_TERMS, 10))
    mixed = "tcp"
    for number in range(MAXIMUM_TERMS - 1):
        term = chance.choice(
            [
                f"src net {chance.choice(IPV4)}",
                f"port {number}",
                f"process p{number}",
                f"not uid {number}",
                f"unit u{number % 30}",
            ]
        )
        mixed = f"{mixed} {chance.choice(['and', 'or'])} {term}"
    row = {"network_type": "ipv6", "transport": "tcp", "client_address": "1::8", "server_address": "fc00::"}
    check([hosts, ports, mixed], [{**row, "client_port": 40000, "server_port": port} for port in (443, 9999)])
