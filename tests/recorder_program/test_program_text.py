"""What a program's text says: annotations, layout, hooks; and what is refused before anything is compiled."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from netrec.errors import ProgramError
from netrec.trace import fields as f
from netrec.trace.definition import Origin, decode, describe
from recorder.bpf import compiler
from recorder.sources.program import translation
from recorder.sources.program.program_file import BUILT_IN, Program, available, find, ring_pages

TEXT = """// What it is for.
//
// More of that.
#include "vmlinux.h"
#define NAME_BYTES 16

/* @table my_rows: One row
 * per thing. */
struct thing {
    u8 small;              // @enum tcp_ca_state: the state
    kernel_time time;      // when
    // ns: how long
    u64 delay_ns;
    u32 rtt_us;            // @scale 1/8 us: round trip
    char name[NAME_BYTES]; // whose
    bool open;
    u32 _pad;
    ip_address peer;       // note: not a unit, but reads as one
    s16 level;             /* dB: loudness */
    __be16 port;
};

SEC("tp/sock/inet_sock_set_state")
int on_state(struct trace_event_raw_inet_sock_set_state *ctx)
{
    return 0; // emit(&row);
}

SEC("cgroup_skb/egress") int out(struct __sk_buff *skb) { return 0; }
"""


def program(text: str, name: str = "mine.bpf.c") -> Program:
    return Program(Path("/somewhere", name), text.encode())


def refused(text: str) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        program(text).request(4096)
    return caught.value


def test_a_struct_becomes_a_table() -> None:
    annotation = program(TEXT).annotation
    table = annotation.table
    assert (table.name, table.meaning, table.time_column) == ("my_rows", "One row per thing.", "time")
    assert annotation.description == "What it is for.\n\nMore of that."
    assert [(one.name, one.type, one.unit, one.meaning) for one in table.fields[:-2]] == [
        ("small", f.TEXT, "", "the state"),
        ("time", f.TIME, "UTC", "when"),
        ("delay_ns", f.INT64, "ns", "how long"),
        ("rtt_us", f.FLOAT, "us", "round trip"),
        ("name", f.TEXT, "", "whose"),
        ("open", f.BOOL, "", ""),
        ("peer", f.TEXT, "", "note: not a unit, but reads as one"),
        ("level", f.INT16, "dB", "loudness"),
        ("port", f.INT32, "", ""),
    ]
    assert [one.name for one in table.fields[-2:]] == ["source", "host"]
    assert annotation.enumerations == ["tcp_ca_state"]


def test_the_layout_is_that_of_c() -> None:
    record = program(TEXT).annotation.record
    assert record.fields is not None
    places = {name: place[1] for name, place in record.fields.items()}
    assert places == {"small": 0, "time": 8, "delay_ns": 16, "rtt_us": 24, "name": 28, "open": 44, "_pad": 48,
                      "peer": 56, "level": 72, "port": 74}  # fmt: skip
    assert record.itemsize == 80


def test_hooks_in_the_words_of_libbpf() -> None:
    first, second = program(TEXT).attachments
    assert (first.kind, first.target, first.program) == (
        compiler.TRACEPOINT, "sock/inet_sock_set_state", "run_on_state",
    )  # fmt: skip
    assert (first.result, second.result) == (0, 1)
    assert second.kind == compiler.CGROUP_EGRESS


def test_lines_stay_where_they_are() -> None:
    """The compiler is told the line of every function's body, and nothing before it moves one."""
    text = program(TEXT).request(4096).text
    begin = text.index('#line 1 "mine.bpf.c"')
    number = 0
    seen = {}
    for line in text[begin:].splitlines():
        if line.startswith("#line"):
            if '"netrec"' in line:
                break
            number = int(line.split()[1]) - 1
            continue
        number += 1
        seen[line.strip()] = number
    lines = [line.strip() for line in TEXT.splitlines()]
    for wanted in ("struct thing {", "char name[NAME_BYTES];", "return 0;", "u32 _pad;"):
        found = next(key for key in seen if key.startswith(wanted))
        assert lines[seen[found] - 1].startswith(wanted)


def test_maps_and_their_calls() -> None:
    maps = """
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 10);
    __type(key, u32);
    __type(value, struct { u64 a; });
} seen SEC(".maps");
"""
    call = "bpf_map_update_elem(&seen, &k, (g(1, 2), &v), BPF_NOEXIST);"
    body = f"int f(void *ctx) {{ u32 k = 1; u64 v[2]; {call} return 0; }}"
    with_map = TEXT.replace('SEC("cgroup_skb/egress")', maps.replace("struct { u64 a; }", "u64") + 'SEC("raw_tp/x")')
    text = program(with_map.replace("int out(struct __sk_buff *skb) { return 0; }", body)).request(4096).text
    assert 'BPF_TABLE("hash", u32, u64, seen, 10);' in text
    assert "seen.insert( &k, (g(1, 2), &v));" in text


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("@table my_rows", "table my_rows", 1, "no struct is marked"),
        ("@table my_rows", "@table flows", 7, "cannot be called 'flows'"),
        ("@table my_rows", "@table My-Rows", 7, "cannot be called"),
        ("kernel_time time;", "u64 time;", 9, "no field of type kernel_time"),
        ("u64 delay_ns;", "double delay_ns;", 13, "cannot be of type double"),
        ("u64 delay_ns;", "u64 a, b;", 13, "cannot read the field"),
        ("u64 delay_ns;", "u64 host;", 13, "cannot be called host"),
        ("u64 delay_ns;", "u64 delays[4];", 13, "cannot be a column"),
        ("@enum tcp", "@sort tcp", 10, "@sort is not known"),
        ("@scale 1/8", "@scale 1/0", 14, "not a number"),
        ('SEC("tp/sock/inet_sock_set_state")', 'SEC("kprobe/tcp_connect")', 23, "not a hook of netrec"),
        ('SEC("tp/sock/inet_sock_set_state")', 'SEC("tp/sock")', 23, "not a hook of netrec"),
        ('#include "vmlinux.h"', '#include "/etc/other.h"', 4, "not allowed"),
        ('#include "vmlinux.h"', "# /* x */ include </etc/other.h>", 4, "not allowed"),
        ('#include "vmlinux.h"', "%:include </etc/other.h>", 3, "disguise"),
        ('#include "vmlinux.h"', "#\\\ninclude </etc/other.h>", 3, "disguise"),
        ('#include "vmlinux.h"', "#import </etc/other.h>", 4, "#import is not allowed"),
        ('#include "vmlinux.h"', '#define X asm(".incbin \\"/etc/shadow\\"")', 4, "not allowed"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where(old: str, new: str, line: int, words: str) -> None:
    assert old in TEXT
    error = refused(TEXT.replace(old, new, 1))
    assert error.message.startswith(f"mine.bpf.c:{line}: ") and words in error.message, error.message
    assert error.hint


def test_a_definition_survives_its_way_through_a_footer() -> None:
    table = program(TEXT).annotation.table
    origin = Origin("mine.bpf.c", "What it is for.", "00ff")
    found, whence = decode("my_rows", describe(table, origin))
    assert whence == origin and describe(found, whence) == describe(table, origin)
    assert found.schema == table.schema
    assert pa.types.is_timestamp(table.schema.field("time").type)


@pytest.mark.parametrize("size", [1, 4096, 4097, 100_000, 1 << 23])
def test_a_ring_has_a_power_of_two_of_pages(size: int) -> None:
    pages = ring_pages(size)
    assert pages & (pages - 1) == 0 and pages * 4096 >= size and (pages == 1 or pages * 2048 < size)


def test_names_find_programs_in_the_users_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = tmp_path / "netrec" / "programs"
    own.mkdir(parents=True)
    (own / "accept_latency.bpf.c").write_text(TEXT)
    assert find("accept_latency").parent == own
    assert [path.parent for path in available() if path.name == "accept_latency.bpf.c"] == [own]
    assert find("window_collapses").parent == BUILT_IN
    with pytest.raises(ProgramError, match="no program 'nothing'"):
        find("nothing")


def test_every_shipped_program_says_what_it_is_for() -> None:
    shipped = sorted(BUILT_IN.glob("*.bpf.c"))
    assert len(shipped) >= 3
    for path in shipped:
        one = Program(path, path.read_bytes())
        assert one.annotation.description.partition("\n\n")[0].endswith(".")
        assert all(column.field is None or column.field.meaning for column in one.annotation.columns)
        assert translation.RING in one.request(4096).maps
