"""The C text of a filter: compiled here and compared with the reference, flow by flow."""

from __future__ import annotations

import ctypes
import itertools
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netrec.errors import FilterError
from netrec.filter import parse
from netrec.filter.bpf import MAXIMUM_CGROUP_TERMS, MAXIMUM_TERMS, STRUCT, CompiledFilter, compile_filter
from netrec.filter.evaluate import evaluate
from netrec.protocols import transport_number
from tests.support.filter_flows import filters, flow, flows

_files = itertools.count()


class Flow(ctypes.Structure):
    _fields_ = [
        ("client_ipv6", ctypes.c_uint8 * 16),
        ("server_ipv6", ctypes.c_uint8 * 16),
        ("process_name", ctypes.c_uint8 * 16),
        ("cgroup_id", ctypes.c_uint64),
        ("client_ipv4", ctypes.c_uint8 * 4),
        ("server_ipv4", ctypes.c_uint8 * 4),
        ("pid", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("cgroup_terms", ctypes.c_uint32),
        ("client_port", ctypes.c_uint16),
        ("server_port", ctypes.c_uint16),
        ("version", ctypes.c_uint8),
        ("protocol", ctypes.c_uint8),
    ]


def as_struct(row: dict[str, Any], compiled: CompiledFilter) -> Flow:
    """The row as an eBPF program would present it; what a filter says it does not read stays garbage."""
    filled = Flow.from_buffer_copy(b"\xa5" * ctypes.sizeof(Flow))
    version = 4 if row["network_type"] == "ipv4" else 6
    values: dict[str, Any] = {
        "version": version,
        "protocol": transport_number(row["transport"]),
        "client_port": row.get("client_port", 0),
        "server_port": row.get("server_port", 0),
        "pid": row.get("process_pid", 0),
        "uid": row.get("process_uid", 0xFFFFFFFF),
        "cgroup_id": row.get("cgroup_id", 0),
        "process_name": row.get("process_name", "").encode().ljust(16, b"\0"),
        "cgroup_terms": 0,
    }
    for side in ("client", "server"):
        values[f"{side}_ipv{version}"] = ip_address(row[f"{side}_address"]).packed
    for index, term in enumerate(compiled.cgroup_terms):
        own = row.get("container_id" if term.kind == "container" else "process_unit", "")
        belongs = own.startswith(str(term.value)) if term.kind == "container" else own == term.value
        values["cgroup_terms"] |= belongs << index
    for name in compiled.members & values.keys():
        value = values[name]
        if isinstance(value, bytes):
            getattr(filled, name)[:] = value
        else:
            setattr(filled, name, value)
    return filled


def build(compiled: list[CompiledFilter], folder: Path) -> ctypes.CDLL:
    """All filters as functions match_0, match_1, ... of one shared object."""
    number = next(_files)
    text = "#include <linux/types.h>\n" + STRUCT
    for index, one in enumerate(compiled):
        text += one.function(f"filter_{index}")
        text += f"int match_{index}(const struct netrec_filter_flow *flow) {{ return filter_{index}(flow); }}\n"
    source, library = folder / f"filter{number}.c", folder / f"filter{number}.so"
    source.write_text(text)
    flags = ["-shared", "-fPIC", "-O1", "-w"]
    done = subprocess.run(["gcc", *flags, "-o", str(library), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@settings(max_examples=12, deadline=None)
@given(st.lists(filters(), min_size=25, max_size=25), st.lists(flow(), min_size=20, max_size=40))
def test_c_agrees_with_the_reference(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: list[dict[str, Any]]
) -> None:
    compiled = [compile_filter(parse(text), text=text) for text in texts]
    library = build(compiled, tmp_path_factory.getbasetemp())
    for index, (text, one) in enumerate(zip(texts, compiled, strict=True)):
        assert one.exact
        match = getattr(library, f"match_{index}")
        found = [bool(match(ctypes.byref(as_struct(row, one)))) for row in rows]
        assert found == evaluate(parse(text), flows(rows)).tolist(), (text, one.expression)


@settings(max_examples=6, deadline=None)
@given(st.lists(filters(), min_size=25, max_size=25), st.lists(flow(), min_size=20, max_size=40))
def test_what_is_unknown_lets_pass_all_that_might_match(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: list[dict[str, Any]]
) -> None:
    compiled = [
        compile_filter(parse(text), unknown=("process", "pid", "uid", "cgroup", "container", "unit")) for text in texts
    ]
    library = build(compiled, tmp_path_factory.getbasetemp())
    for index, (text, one) in enumerate(zip(texts, compiled, strict=True)):
        assert not one.members & {"pid", "uid", "process_name", "cgroup_id", "cgroup_terms"}
        match = getattr(library, f"match_{index}")
        for row, wanted in zip(rows, evaluate(parse(text), flows(rows)).tolist(), strict=True):
            passed = bool(match(ctypes.byref(as_struct(row, one))))
            assert passed == wanted if one.exact else passed >= wanted, (text, row)


def test_unknown_owners_below_not() -> None:
    assert compile_filter(parse("not process nginx"), unknown=("process",)).expression == "!(0)"
    assert compile_filter(parse("not not process nginx"), unknown=("process",)).expression == "!(!(1))"
    assert not compile_filter(parse("tcp or process nginx"), unknown=("process",)).exact
    assert compile_filter(parse("tcp or pid 1"), unknown=("process",)).exact


def test_both_byte_orders() -> None:
    little, big = (compile_filter(parse("src host 10.0.0.1"), byte_order=order) for order in ("little", "big"))
    assert "0x100000a" in little.expression
    assert "0xa000001" in big.expression


def test_the_same_cgroup_term_takes_one_bit() -> None:
    compiled = compile_filter(parse("unit nginx or (tcp and unit nginx) or container abcd or cgroup /x"))
    assert [term.kind for term in compiled.cgroup_terms] == ["unit", "container", "cgroup"]
    assert compiled.members == {"cgroup_terms", "protocol"}


def test_limits_are_refused() -> None:
    compile_filter(parse(" or ".join(f"port {port}" for port in range(MAXIMUM_TERMS))))
    with pytest.raises(FilterError, match="terms"):
        compile_filter(parse(" or ".join(f"port {port}" for port in range(MAXIMUM_TERMS + 1))))
    text = " or ".join(f"unit u{number}" for number in range(MAXIMUM_CGROUP_TERMS + 1))
    with pytest.raises(FilterError, match="cgroups") as caught:
        compile_filter(parse(text), text=text)
    assert text[slice(*caught.value.span)] == f"unit u{MAXIMUM_CGROUP_TERMS}"


def test_text_from_strangers_cannot_leave_its_constant() -> None:
    compiled = compile_filter(parse("""process '*/ 1; } "%s'"""))
    assert "*/" not in compiled.expression and "%" not in compiled.expression
